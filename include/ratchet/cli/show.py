"""How the command line shows things."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ratchet.domain.night import Night
    from ratchet.domain.segments import SegmentsResult
    from ratchet.domain.tuning import Found
    from ratchet.steps.context import Services

_LONGEST = 1000  # characters of a reason
_COLOURS = {
    "promoted": "green",
    "pass": "green",
    "refused": "magenta",
    "fail": "red",
    "undecided": "yellow",
    "skipped": "cyan",
    "rejected": "red",
    "failed": "red",
    "not_applicable": "dim",
}


def say(message: str) -> None:
    """Print a line, with Rich's markup."""
    console().print(message)


def plain(text: str) -> str:
    """Return a person's words as one line without markup: line breaks and control characters could pass for lines of ours."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


def account() -> str:
    """Return the name of the account that runs this; the environment, which anybody can set to anybody, is not asked."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's
        return f"uid {os.getuid()}"


def readable(text: str) -> str:
    """Refuse words that no record could hold.

    Raises:
        BadParameter: they are not UTF-8, or longer than the forms in Airflow take.
    """
    import typer

    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise typer.BadParameter("expected UTF-8")
    if len(text) > _LONGEST:
        raise typer.BadParameter(f"expected at most {_LONGEST} characters, found {len(text)}")
    return text


def console(*, stderr: bool = False) -> Any:
    """Return a console."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def coloured(outcome: str) -> str:
    """Return an outcome as a coloured word."""
    colour = _COLOURS.get(outcome, "white")
    return f"[{colour}]{outcome.upper()}[/{colour}]"


def tell(night: Night) -> None:
    """Say how a night came out, check by check."""
    from rich.markup import escape

    from ratchet.steps.report import headline

    what, _, why = headline(night).partition(":")
    model = what.removeprefix(night.outcome.upper())
    say(
        f"[bold]{coloured(night.outcome)}[/bold] {night.request.pipeline} {night.request.cutoff}{escape(model)}:{escape(why)}"
    )
    if night.tune and (night.tune.searched or night.tune.source != "spec"):
        say(f"  [dim]parameters: {escape(night.tune.why)}[/dim]")
    for check in night.gate.verdict.checks if night.gate else ():
        say(f"  {coloured(check.outcome.lower())} {escape(check.name)}: {escape(check.reason)}")
    say(
        f"[dim]{sum(night.seconds.values()):.1f} s: "
        + ", ".join(f"{step} {s:.1f}" for step, s in night.seconds.items())
        + "[/dim]"
    )


def night_json(night: Night, services: Services | None = None) -> dict[str, Any]:
    """Return what ``--json`` promises of a night; with services, also who serves now."""
    from ratchet.domain.ledger import champion_of, frozen

    request, snapshot = night.request, night.snapshot
    found: dict[str, Any] = {
        "pipeline": request.pipeline,
        "cutoff": str(request.cutoff),
        "dry_run": request.dry_run,
        "run_key": night.run_key,
        "snapshot": {"digest": snapshot.digest, "partitions": snapshot.partitions, "rows": snapshot.rows}
        if snapshot
        else None,
        "outcome": night.outcome,
        "reasons": list(night.reasons),
        "checks": [c.model_dump(mode="json") for c in night.gate.verdict.checks] if night.gate else [],
        "model_version": night.register_.version.version if night.register_ and night.register_.version else None,
        "artifact_digest": night.train.artifact_digest if night.train else None,
        "tuning": night.tune.model_dump(
            mode="json", include={"source", "params", "why", "searched", "search", "seen_through"}
        )
        if night.tune
        else None,
        "metrics": {"challenger": night.evaluate.challenger, "champion": night.evaluate.champion}
        if night.evaluate
        else {},
        "champion": None,
        "frozen": None,
        "rolled_back": night.score.rolled_back if night.score else None,
        "alerts": [{"kind": alert.kind, "words": alert.words, "remedy": alert.remedy} for alert in night.alerts],
        "seconds": night.seconds,
        "report": night.report.page if night.report else None,
    }
    if services is not None:
        entries = services.ledger.entries(request.pipeline)
        serving, freeze = champion_of(entries), frozen(entries, datetime.now(UTC).date())
        found["frozen"] = freeze.model_dump(mode="json", include={"actor", "reason", "until"}) if freeze else None
        found["champion"] = {"version": serving.version, "run_key": serving.run_key} if serving else None
    return found


def segments_json(found: SegmentsResult | None) -> dict[str, Any] | None:
    """Return what ``--json`` promises of a night's segments."""
    from ratchet.domain.segments import name_of

    if found is None:
        return None
    listed = [
        {"name": name_of(found.pipeline, s.slug), "serves": s.serves, **s.model_dump(mode="json")}
        for s in found.segments
    ]
    facts = found.model_dump(mode="json", exclude={"segments"})
    return {**facts, "own": found.own, "failed": [s.value for s in found.failed], "segments": listed}


def tell_segments(found: SegmentsResult) -> None:
    """Print the segments as a table, and what became of them in a line."""
    from rich.table import Table

    from ratchet.domain.segments import visible

    table = Table(title=f"{found.pipeline} by {found.by}, night of {found.cutoff}", title_justify="left")
    for column in ("segment", "model", "served by", "last night", "why"):
        table.add_column(column)
    table.add_column("rows", justify="right")
    for segment in found.segments:
        others = f"global v{found.champion}" if found.champion else "nobody yet"
        served = f"[bold]own v{segment.champion}[/bold]" if segment.champion else others
        night = coloured(segment.outcome) if segment.outcome else "[dim]none[/dim]"
        why = segment.reason if segment.outcome in {"failed", "rejected"} else segment.why
        table.add_row(plain(visible(segment.value)), segment.slug, served, night, plain(why[:160]), f"{segment.rows:,}")
    console().print(table)
    if found.of_none:
        served = "the global champion serves them" if found.champion else "nobody serves them yet"
        say(f"{found.of_none:,} rows have no {plain(found.by)}: {served}")
    say(plain(found.words[:2000]))


def search_json(found: Found, loss: str) -> dict[str, Any]:
    """Return what ``--json`` promises of a search."""
    told = found.model_dump(mode="json", exclude={"study", "about", "newest", "mlflow_run_id"})
    return {"cutoff": told.pop("cutoff"), "loss": loss, **told}


def tell_search(found: Found, loss: str) -> None:
    """Show a search, its best trial first."""
    from rich.markup import escape
    from rich.table import Table

    say(f"[bold]{found.cutoff}[/bold]: searched, because {escape(found.why)}")
    say(f"scored on {len(found.days)} days up to {found.seen_through}, before the hold-out; {escape(found.won)}")
    if found.mlflow_url:
        say(f"[dim]{escape(found.mlflow_url)}[/dim]")
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.params))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("trial", loss, "rounds", *names, ""):
        table.add_column(name, justify="right" if name else "left", no_wrap=not name, overflow="ellipsis")
    best = sorted(found.trials, key=lambda t: (t.score is None, t.score or 0.0, t.number))
    for trial in best:
        score = f"{trial.score:.5f}" if trial.score is not None else trial.state
        won = trial.params == found.params and trial.score is not None
        words = ["chosen"] * won + [f"the {trial.origin}'s"] * (trial.origin != "drawn") + [escape(trial.problem)]
        shown = [_number(trial.params.get(name)) for name in names]
        line = [str(trial.number), score, str(trial.rounds), *shown, ", ".join(word for word in words if word)]
        table.add_row(*line, style="green" if won else "dim" if trial.score is None else "")
    console().print(table)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


class Watch:
    """Shows which step runs and what it does, on standard error; silent where JSON is wanted."""

    def __init__(self, *, quiet: bool) -> None:
        self._status: Any = None if quiet else console(stderr=True).status("starting")
        self._step = ""

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._status is not None:
            self._status.stop()

    def __call__(self, step: str, message: str) -> None:
        """Show what a step does now."""
        from rich.markup import escape

        if self._status is None:
            return
        if step != self._step:
            self._step = step
            self._status.console.print(f"[bold]{step}[/bold]")
        elif message:
            self._status.console.print(f"  [dim]{escape(message)}[/dim]")
        self._status.update(f"{step}: {escape(message)}" if message else step)
