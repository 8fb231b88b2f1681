"""Commands about the ledger: verify it, show it, export it, and sign one that began without keys."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.cli.connect import connect
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import account, plain, print_json, readable, say
from ratchet.errors import PipelineUnknown, SettingsInvalid, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ratchet.domain.checks import Check
    from ratchet.domain.ledger import LedgerEntry
    from ratchet.steps.audit import Audit
    from ratchet.steps.context import Services

group = typer.Typer(no_args_is_help=True, help="The record of champions: verify, show, export, sign.")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (verify, show, export, sign):
        group.command()(command)
    app.add_typer(group, name="ledger")


def verify(  # noqa: PLR0913  a command's options
    pipeline: Annotated[str | None, typer.Argument(help="The pipeline's name.", metavar="[PIPELINE]")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Verify every pipeline of the home.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Download and hash the artifact of every champion that ever was.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="An earlier export, with which the ledger must begin.", metavar="FILE"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Verify this export alone; no service is asked.", metavar="FILE")
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key", help="Public key (PEM), or a folder of them, that --file must be signed by.", metavar="FILE"
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say whether the ledger holds, and whether what it refers to is as it was recorded. Exit status 0: all of it does."""
    if file:
        if every or deep or against:
            raise UsageError("--file asks no service, so --all, --deep and --against have nothing to look at")
        found = [_of_file(file, pipeline, key or [])]
    else:
        if every == bool(pipeline):
            raise UsageError("name a PIPELINE, or ask for --all, or give an export with --file")
        if key:
            raise UsageError("--key goes with --file; here the keys are those of RATCHET_TRUSTED_KEYS")
        found = _of_services(None if every else pipeline, home, deep=deep, against=against)
    holds = all(audit.holds for audit in found)
    if as_json:
        told = [_json(audit) for audit in found]
        print_json({"holds": holds, "pipelines": told} if every else told[0])
    else:
        for audit in found:
            _tell(audit)
    sys.exit(0 if holds else 1)


def show(pipeline: Name, *, home: Home = None, as_json: Json = False) -> None:
    """List the entries: who served from when on, by what and by whom."""
    from ratchet.steps import turns

    services = _known(pipeline, home)
    entries = turns.look(services, pipeline)
    if as_json:
        print_json({"pipeline": pipeline, "entries": [entry.model_dump(mode="json") for entry in entries]})
        return
    if not entries:
        say(f"the ledger of {pipeline} has no entries yet")
    for entry in entries:
        _tell_entry(entry)


def export(
    pipeline: Name,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="By default standard output.", metavar="FILE")
    ] = None,
    home: Home = None,
) -> None:
    """Write the verified entries as JSON Lines: all that `ratchet ledger verify --file` needs, and one line for one hash."""
    from ratchet.steps import turns

    text = "".join(entry.as_json() + "\n" for entry in turns.look(_known(pipeline, home), pipeline))
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text)
    except OSError as exc:
        raise UsageError(f"--output {output}: {exc.strerror}") from exc


def sign(
    pipeline: Name,
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="How you know that it is whole; goes to the ledger.", callback=readable)
    ],
    home: Home = None,
) -> None:
    """Vouch for a ledger that began unsigned: append a signed entry, which changes nothing and covers all before it."""
    from ratchet.adapters.ledger import ObjectLedger
    from ratchet.settings import settings
    from ratchet.steps import turns

    services = _known(pipeline, home)
    if not settings().signing_key:
        raise SettingsInvalid("RATCHET_SIGNING_KEY", "", "the private key to sign with")
    entries = turns.read(dataclasses.replace(services, ledger=ObjectLedger(services.store)), pipeline)
    if any(entry.signature for entry in entries):
        services.ledger.entries(pipeline)  # what is signed must hold as it is
        say(f"{pipeline} is signed already: every entry from now on must be")
        return
    if not entries:
        say(f"{pipeline} has no entries yet; its first will be signed")
        return
    *_, made = turns.append(services, pipeline, entries, "sign", actor=account(), reason=reason)
    say(f"entry {made.seq} of {pipeline} is signed by key {made.key[:16]} and vouches for the {len(entries)} before it")


def shown_time(at: str) -> str:
    """Render a moment for people: UTC, to the second."""
    from datetime import UTC, datetime

    return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def tell_findings(findings: Sequence[Check]) -> None:
    """Print one line a finding."""
    marks = {"PASS": "[green]✓[/green]", "FAIL": "[red]✗[/red]", "UNDECIDED": "[yellow]?[/yellow]"}
    for found in findings:
        say(f"  {marks.get(found.outcome, '[dim]–[/dim]')} {plain(found.name)}: {plain(found.reason)}")


def _of_services(pipeline: str | None, home: Path | None, *, deep: bool, against: Path | None) -> list[Audit]:
    from ratchet.home import default_home, pipeline_names
    from ratchet.steps.audit import audit

    if pipeline:
        earlier = _earlier(against, pipeline) if against else None
        return [audit(_known(pipeline, home), pipeline, deep=deep, earlier=earlier)]
    if against:
        raise UsageError("--against is an export of one pipeline: name it instead of --all")
    where = home or default_home()
    names = pipeline_names(where)
    if not names:
        raise UsageError(f"no pipelines in {where}/pipelines")
    services = connect()
    return [audit(services, name, deep=deep) for name in names]


def _earlier(path: Path, pipeline: str) -> Sequence[LedgerEntry]:
    """Read an export that the ledger is compared with; what does not hold itself proves nothing."""
    from ratchet.steps.audit import audit_export

    audit, entries = audit_export(_lines(path), {})
    if not entries:
        raise UsageError(f"--against {path}: {audit.findings[0].reason}")
    if entries[0].pipeline != pipeline:
        raise UsageError(f"--against {path}: expected the ledger of {pipeline}, found that of {entries[0].pipeline}")
    return entries


def _of_file(path: Path, pipeline: str | None, keys: Sequence[Path]) -> Audit:
    from ratchet.adapters.signing import trusted_keys
    from ratchet.steps.audit import audit_export

    trusted = {key.fingerprint: key.holds for given in keys for key in trusted_keys(given, "--key")}
    audit, entries = audit_export(_lines(path), trusted)
    if pipeline and entries and audit.pipeline != pipeline:
        raise UsageError(f"--file {path}: expected the ledger of {pipeline}, found that of {audit.pipeline}")
    return audit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: expected an export of a ledger, which can be read: {exc}") from exc


def _known(pipeline: str, home: Path | None) -> Services:
    """Build the services for a pipeline of the home, or for one that has gone from it and left its ledger."""
    from ratchet.domain import layout
    from ratchet.home import default_home, pipeline_names

    services, where = connect(), home or default_home()
    names = pipeline_names(where)
    if pipeline not in names and not ("/" not in pipeline and any(services.store.list(layout.ledger(pipeline)))):
        raise PipelineUnknown(pipeline, str(where), names)
    return services


def _tell_entry(entry: LedgerEntry) -> None:
    """Print what an entry says in two or three lines."""
    serves = f"v{entry.champion.version} serves (cutoff {entry.champion.cutoff})" if entry.champion else "nobody serves"
    until = f" until {entry.until}" if entry.until else ""
    signed = f"signed {entry.key[:8]}" if entry.signature else "not signed"
    say(
        f"[bold]{entry.seq:>4}[/bold]  {shown_time(entry.at)}  [bold]{entry.action}[/bold]{until}: {serves}"
        f"  [dim]{entry.hash[:12]}, {signed}[/dim]"
    )
    approved = f", approved by {entry.approved_by}" if entry.approved_by else ""
    said = f": {entry.reason}" if entry.reason else ""
    say(f"      {plain(entry.actor + approved + said)}")
    for why in entry.reasons:
        say(f"      [dim]{plain(why)}[/dim]")


def _json(audit: Audit) -> dict[str, Any]:
    return {"holds": audit.holds, **audit.model_dump(mode="json")}


def _tell(audit: Audit) -> None:
    entries = f"{audit.entries} {'entry' if audit.entries == 1 else 'entries'}"
    verdict = "[bold green]holds[/bold green]" if audit.holds else "[bold red]does not hold[/bold red]"
    say(f"ledger of [bold]{audit.pipeline or '?'}[/bold], {entries}: {verdict}")
    tell_findings(audit.findings)
