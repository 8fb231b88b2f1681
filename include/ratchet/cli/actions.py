"""Commands by which a person acts on a champion: send it back, freeze it, promote, set the alias right, tidy up."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.cli.connect import connect_for
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import account, console, plain, print_json, readable, say
from ratchet.errors import ActionRefused

if TYPE_CHECKING:
    from ratchet.domain.ledger import LedgerEntry

_SHOWN = 20  # versions, in one line
Reason = Annotated[
    str, typer.Option("--reason", help="Why; goes to the ledger.", show_default=False, callback=readable)
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (rollback, freeze, thaw, promote, reconcile, prune):
        app.command()(command)


def rollback(
    pipeline: Name,
    *,
    reason: Reason,
    to: Annotated[
        int | None, typer.Option("--to", help="The version that shall serve; by default the last that served before.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Send the champion back to one that served before, once that is loaded afresh and has scored today's rows."""
    from ratchet.home import load_pipeline
    from ratchet.steps.rollback import roll_back

    services = connect_for(pipeline, home)
    loaded = load_pipeline(pipeline, home)
    _told(roll_back(services, loaded, to=to, actor=account(), reason=reason), as_json=as_json)


def freeze(
    pipeline: Name,
    *,
    reason: Reason,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The last day on which it holds, UTC; by default until a thaw."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let nobody be promoted until further notice; nights go on judging, and a rollback is still possible."""
    from ratchet.steps import freeze as freezing

    services, last = connect_for(pipeline, home), until.date() if until else None
    _told(freezing.freeze(services, pipeline, actor=account(), reason=reason, until=last), as_json=as_json)


def thaw(pipeline: Name, *, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Let promotions go on."""
    from ratchet.steps import freeze as freezing

    services = connect_for(pipeline, home)
    _told(freezing.thaw(services, pipeline, actor=account(), reason=reason), as_json=as_json)


def promote(
    pipeline: Name,
    *,
    version: Annotated[int, typer.Option("--version", help="A registered version of a night that was UNDECIDED.")],
    reason: Reason,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Override an UNDECIDED: promote a version all the same, where override.allowed names you and nothing failed."""
    from ratchet.home import load_pipeline
    from ratchet.steps import turns
    from ratchet.steps.promote import may_override, promote_version

    loaded, actor = load_pipeline(pipeline, home), account()
    problem = may_override(loaded, actor, reason)
    if problem:
        raise ActionRefused("promotion", pipeline, problem)
    services = connect_for(pipeline, home)
    night = promote_version(services, loaded, version, actor=actor, reason=reason)
    assert night.promote
    _told(next(e for e in turns.look(services, pipeline) if e.seq == night.promote.entry), as_json=as_json)


def reconcile(
    pipeline: Name,
    *,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt", help="Make the version that the alias names the champion, instead of setting it right."
        ),
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why it is adopted; goes to the ledger.", callback=readable)
    ] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Verify the ledger and set the MLflow alias right, or adopt what a hand has set it to."""
    from ratchet.home import load_pipeline
    from ratchet.steps import turns
    from ratchet.steps.adopt import adopt as take_over
    from ratchet.steps.champion import reconcile as set_right

    services = connect_for(pipeline, home)
    if adopt:
        loaded = load_pipeline(pipeline, home)
        _told(take_over(services, loaded, actor=account(), reason=reason), as_json=as_json)
        return
    entries = turns.look(services, pipeline)
    said = set_right(services, pipeline)
    turns.read(services, pipeline)
    if as_json:
        print_json({"pipeline": pipeline, "entries": len(entries), "repaired": said.words if said else None})
        return
    say(said.words if said else f"{pipeline}: {len(entries)} ledger entries hold, and the alias follows them")


def prune(
    pipeline: Annotated[
        str | None, typer.Argument(help="The pipeline's name; by default all.", metavar="PIPELINE")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Delete by the spec's `retention` what no champion, past or present, no ledger entry and no kept night needs."""
    from ratchet.home import default_home, load_pipeline, pipeline_names
    from ratchet.steps.prune import models_of, prunable
    from ratchet.steps.prune import prune as delete

    names = (pipeline,) if pipeline else pipeline_names(home or default_home())
    told = []
    connected = [(connect_for(name, home), load_pipeline(name, home)) for name in names]
    every = [
        (services, model)
        for services, loaded in connected
        for model in ((loaded,) if loaded.segment else models_of(services, loaded))
    ]
    for services, loaded in every:
        name = loaded.name
        found = prunable(services, loaded) if dry_run else delete(services, loaded, _dim if not as_json else _silent)
        told.append({"pipeline": name, "dry_run": dry_run, "bytes": found.bytes, **found.model_dump(mode="json")})
        if as_json:
            continue
        for kept in found.objects if dry_run else ():
            _dim(f"{kept.key} ({kept.size:,} bytes)")
        say(
            f"{name}: {'would delete' if dry_run else 'deleted'} {len(found.versions)} versions"
            f"{_listed(found.versions)}, {len(found.runs)} MLflow runs and {len(found.objects)} objects of "
            f"{found.bytes / 1e6:.1f} MB"
        )
    if as_json:
        print_json({"pipelines": told})


def _listed(versions: tuple[int, ...]) -> str:
    return f" ({', '.join(map(str, versions[:_SHOWN]))}{' …' if len(versions) > _SHOWN else ''})" if versions else ""


def _dim(message: str) -> None:
    console(stderr=True).print(f"[dim]{message}[/dim]")


def _silent(_message: str) -> None:
    """Say nothing."""


def _told(entry: LedgerEntry, *, as_json: bool) -> None:
    """Show an entry that was appended."""
    if as_json:
        print_json(entry.model_dump(mode="json"))
        return

    serving = f"version {entry.champion.version} serves" if entry.champion else "nobody serves yet"
    until = f" until {entry.until}" if entry.until else ""
    say(f"[bold]{entry.action}[/bold] of {entry.pipeline}{until}: {serving} (ledger entry {entry.seq})")
    say(f"  {plain(entry.actor)}, {entry.at}: {plain(entry.reason)}")
    for why in entry.reasons:
        say(f"  [dim]{plain(why)}[/dim]")
