"""What has happened: the nights of a pipeline, and who served at any moment."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.cli.connect import connect_for
from ratchet.cli.ledger import shown_time, tell_findings
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import coloured, console, night_json, plain, print_json, say
from ratchet.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ratchet.domain.night import Night
    from ratchet.steps.history import Learnt, Served


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(history)


def history(
    pipeline: Name,
    *,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            help="Say who served then: a day (its end, UTC) or a moment such as 2026-03-01T09:30 (UTC, or with a zone).",
            metavar="DATE",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many nights.")] = 30,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List nights and how they ended, newest cutoff first, dry runs apart; or say which version served at a moment.

    With --at the exit status is 0 when all that the answer rests on still verifies.
    """
    from ratchet.steps import turns
    from ratchet.steps.history import nights, served

    when = moment(at) if at else None
    services = connect_for(pipeline, home)
    if when:
        then = served(services, pipeline, when)
        print_json(_then_json(then)) if as_json else _tell_then(then)
        sys.exit(0 if then.verifies else 1)
    found, entries = nights(services, pipeline, limit), turns.look(services, pipeline)
    real, dry = ([n for n in found if n.request.dry_run is kind] for kind in (False, True))
    if as_json:
        listed = {"nights": [night_json(n) for n in real], "dry_runs": [night_json(n) for n in dry]}
        print_json({"pipeline": pipeline, **listed, "ledger": [e.model_dump(mode="json") for e in entries]})
        return
    _list(f"{pipeline}: {len(entries)} ledger entries", real)
    if dry:
        _list("dry runs, which changed nothing", dry)


def moment(text: str) -> datetime:
    """Read a day, which means its end, or a moment; UTC unless it names a zone.

    Raises:
        UsageError: it is neither.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(
            f"--at {text}: expected a day such as 2026-03-01, or a moment such as 2026-03-01T09:30 or 2026-03-01T09:30+02:00"
        ) from exc
    if len(text) <= len("2026-03-01"):
        found = datetime.combine(found.date(), time.max)
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError as exc:
        raise UsageError(f"--at {text}: expected a moment of the years 1 to 9999 in UTC") from exc


def _list(title: str, nights: Sequence[Night]) -> None:
    from rich.table import Table

    table = Table("cutoff", "outcome", "version", "rows", "why", title=title)
    for n in nights:
        version = n.register_.version.version if n.register_ and n.register_.version else ""
        rows = f"{n.rows:,}" if n.rows is not None else ""
        table.add_row(str(n.request.cutoff), coloured(n.outcome), str(version), rows, plain("; ".join(n.reasons)))
    console().print(table)


def _then_json(then: Served) -> dict[str, Any]:
    entry = then.entry
    champion = entry.champion if entry else None
    return {
        "version": champion.version if champion else None,
        "since": entry.at if entry else None,
        "until": then.until.at if entry and then.until else None,
        "verifies": then.verifies,
        **then.model_dump(mode="json", exclude={"until"}),
        "next": then.until.model_dump(mode="json") if then.until else None,
    }


def _tell_then(then: Served) -> None:
    asked = shown_time(then.at)
    future = " (that is to come: this is who serves now)" if datetime.fromisoformat(then.at) > datetime.now(UTC) else ""
    say(f"[bold]{then.pipeline}[/bold] at {asked} UTC{future}\n")
    entry = then.entry
    if entry is None or entry.champion is None:
        _tell_nobody(then)
        return
    champion = entry.champion
    _row("served by", f"[bold]version {champion.version}[/bold]")
    _row("since", f"{shown_time(entry.at)} UTC, by ledger entry {entry.seq} ({entry.action})")
    _row("until", _until(then))
    if then.frozen:
        last = f" until {then.frozen.until}" if then.frozen.until else ""
        _row("frozen", plain(f"{then.frozen.actor}{last}: {then.frozen.reason} (entry {then.frozen.seq})"))
    _row("artifact", f"sha256 {champion.artifact_digest}")
    _row("", f"MLflow run {champion.mlflow_run_id}, run key {champion.run_key[:16]}")
    _tell_learnt(then.learnt)
    _tell_verdict(then)
    _row("approved by", plain(then.approval))
    _row("acted", plain(entry.actor + (f": {entry.reason}" if entry.reason else "")))
    for why in entry.reasons if not then.verdict else ():
        _row("", plain(why))
    says = (
        "[green]all of this still verifies[/green]"
        if then.verifies
        else "[bold red]not all of this verifies[/bold red]"
    )
    say(f"\n{says} (ledger hash {entry.hash[:16]})")
    tell_findings(then.findings)


def _tell_nobody(then: Served) -> None:
    say("nobody served: the ledger has no champion at that time")
    if then.until and then.until.champion:
        first = then.until
        say(
            f"the first champion came at {shown_time(first.at)} UTC: version {then.until.champion.version}, entry {first.seq}"
        )
    else:
        say("and none has come since")
    say("")
    tell_findings(then.findings)


def _until(then: Served) -> str:
    following = then.until
    if following is None:
        return "now: it still serves"
    version = f"version {following.champion.version}" if following.champion else "nobody"
    return f"{shown_time(following.at)} UTC, when {version} followed by entry {following.seq} ({following.action})"


def _tell_learnt(learnt: Learnt | None) -> None:
    if learnt is None:
        return
    if not learnt.snapshot:
        _row(
            "learnt from", f"data up to {learnt.seen_through} (cutoff {learnt.cutoff}); no record of its night is left"
        )
        return
    window = f"{learnt.window.first} to {learnt.window.last}, " if learnt.window else ""
    _row("learnt from", f"{window}{learnt.rows or 0:,} rows of {learnt.objects or 0:,} objects")
    _row("", f"nothing after {learnt.seen_through}; cutoff {learnt.cutoff}")
    _row("", f"snapshot {learnt.snapshot}")
    if learnt.report:
        _row("report", learnt.report)


def _tell_verdict(then: Served) -> None:

    if then.judged is None:
        _row("judged", "by no verdict: a person put it there")
        return
    again = "" if then.judged == then.entry else f", when it first came to serve (entry {then.judged.seq})"
    if then.verdict is None:
        _row("judged", f"its verdict {then.judged.verdict[:16]} is not on record any more{again}")
        return
    _row("judged", f"{coloured(then.verdict.outcome.lower())} in run {then.judged.night[:16]}{again}")
    for check in then.verdict.checks:
        figures = ", ".join(
            f"{what} {figure:.4g}"
            for what, figure in (("value", check.value), ("limit", check.limit))
            if figure is not None
        )
        figures = f" ({figures})" if figures else ""
        _row("", f"{coloured(check.outcome.lower())} {plain(check.name + ': ' + check.reason + figures)}")


def _row(name: str, what: str) -> None:
    say(f"  [dim]{name:<12}[/dim] {what}")
