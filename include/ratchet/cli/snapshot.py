"""Commands about snapshots: which bytes a night has read, what has changed, and whether they can still be had."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.cli.connect import connect_for
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import console, plain, print_json, say
from ratchet.errors import UsageError

if TYPE_CHECKING:
    from datetime import date

    from ratchet.domain.snapshots import Pin, Snapshot, SnapshotDiff
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services

_SHOWN = 40  # objects of one table
group = typer.Typer(no_args_is_help=True, help="The exact data of a night: show, diff, fetch, verify.")
Digest = Annotated[
    str | None,
    typer.Argument(help="First characters of a snapshot's digest; by default the newest night's.", metavar="[DIGEST]"),
]
Cutoff = Annotated[
    datetime | None, typer.Option("--cutoff", formats=["%Y-%m-%d"], help="The snapshot of this night, instead.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (show, diff, fetch, verify):
        group.command()(command)
    app.add_typer(group, name="snapshot")


def show(
    pipeline: Name,
    digest: Digest = None,
    *,
    cutoff: Cutoff = None,
    every: Annotated[bool, typer.Option("--all", help="List every object, however many there are.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show which object versions a night has read, with the digest of their bytes."""
    services, loaded = _connected(pipeline, home)
    found = _found(services, loaded, digest, cutoff)
    if as_json:
        print_json({"digest": found.digest, **found.model_dump(mode="json")})
        return
    say(f"[bold]{found.pipeline}[/bold] cutoff {found.cutoff}, {found.window}: snapshot {found.digest}")
    if found.releases:
        say(f"{len(found.releases)} releases from quarantine: {', '.join(d[:12] for d in found.releases)}")
    for name, pins in found.tables.items():
        _list(name, pins, every=every)


def diff(
    pipeline: Name,
    digest: Digest = None,
    *,
    cutoff: Cutoff = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", help="A cutoff or a digest; by default the night before that has one.", metavar="DATE|DIGEST"
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say what was added, corrected and removed since an earlier snapshot, and what came late by how much."""
    from ratchet.steps.pinned import before, changes, find

    services, loaded = _connected(pipeline, home)
    found = _found(services, loaded, digest, cutoff)
    earlier = find(services, loaded, _moment(against)) if against else before(services, loaded, found)
    changed = changes(services, earlier, found)
    if as_json:
        print_json({"digest": found.digest, "cutoff": str(found.cutoff), **changed.model_dump(mode="json")})
        return
    if earlier is None:
        say(
            f"snapshot {found.digest[:12]} (cutoff {found.cutoff}) is the first on record: {len(changed.added)} objects"
        )
        return
    say(f"{found.digest[:12]} (cutoff {found.cutoff}) against {earlier.digest[:12]} (cutoff {earlier.cutoff})")
    _tell_changes(changed)


def fetch(
    pipeline: Name,
    digest: Digest = None,
    *,
    cutoff: Cutoff = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder; by default one named by pipeline and digest.", metavar="FOLDER")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Bring every byte of a snapshot here, verified, under safe names, with a list of what is what."""
    from ratchet.steps import pinned

    services, loaded = _connected(pipeline, home)
    found = _found(services, loaded, digest, cutoff)
    folder = to or Path(f"{found.pipeline}-{found.digest[:12]}")
    made = pinned.fetch(services, found, folder, _silent if as_json else _progress)
    size = sum(file.size for file in made.files)
    if as_json:
        print_json({"folder": str(folder), **made.model_dump(mode="json")})
        return
    say(
        f"{len(made.files)} objects of {size / 1e6:,.1f} MB, each verified, are in {plain(str(folder))}; {pinned.MANIFEST} lists them"
    )


def verify(
    pipeline: Name, digest: Digest = None, *, cutoff: Cutoff = None, home: Home = None, as_json: Json = False
) -> None:
    """Pull every pinned version again, past every cache, and compare its bytes. Exit status 3: not all can be had."""
    from ratchet.settings import settings
    from ratchet.steps.pinned import verify as pull_again
    from ratchet.wiring import object_store

    services, loaded = _connected(pipeline, home)
    found = _found(services, loaded, digest, cutoff)
    given = settings()
    broken = pull_again(
        found,
        lambda folder: object_store(given.model_copy(update={"cache": folder})),
        services.cache,
        _silent if as_json else _progress,
    )
    pins = sum(map(len, found.tables.values()))
    if as_json:
        told = [b.model_dump(mode="json") for b in broken]
        print_json({"digest": found.digest, "objects": pins, "holds": not broken, "broken": told})
    elif not broken:
        say(
            f"[green]all {pins} objects[/green] of snapshot {found.digest[:12]} (cutoff {found.cutoff}) are as they were"
        )
    else:
        say(
            f"[bold red]{len(broken)} of {pins} objects[/bold red] of snapshot {found.digest[:12]} are not as they were:"
        )
        for b in broken:
            version = f" version {b.version}" if b.version else ""
            say(f"  {b.table}: {plain(b.uri)}{version}: {plain(b.problem)}")
        say("restore them from a copy; what was learnt from them cannot be made again otherwise")
    sys.exit(3 if broken else 0)


def _connected(pipeline: str, home: Path | None) -> tuple[Services, Pipeline]:
    from ratchet.home import load_pipeline

    return connect_for(pipeline, home), load_pipeline(pipeline, home)


def _found(services: Services, pipeline: Pipeline, digest: str | None, cutoff: datetime | None) -> Snapshot:
    from ratchet.steps.pinned import find

    if digest and cutoff:
        raise UsageError("give a DIGEST or --cutoff, not both")
    return find(services, pipeline, digest or (cutoff.date() if cutoff else None))


def _moment(text: str) -> str | date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        return text


def _list(name: str, pins: tuple[Pin, ...], *, every: bool) -> None:
    """Print a line for each object, its key last and whole, so that it can be copied."""
    size, rows = sum(pin.size for pin in pins), sum(pin.rows for pin in pins)
    say(f"\n[bold]{name}[/bold]: {len(pins)} objects, {rows:,} rows, {size / 1e6:,.1f} MB")
    shown = pins if every else pins[-_SHOWN:]
    say(f"[dim]{'day':<10}  {'rows':>10}  {'bytes':>13}  {'sha256':<12}  {'landed (UTC)':<16}  key, version[/dim]")
    for pin in shown:
        day, landed = str(pin.day or ""), (pin.modified or "")[:16].replace("T", " ")
        where = plain(pin.key) + (f", {plain(pin.version)}" if pin.version else "")
        say(f"{day:<10}  {pin.rows:>10,}  {pin.size:>13,}  {pin.sha256[:12]}  {landed:<16}  {where}")
        if pin.problem:
            say(f"{'':<10}  [red]cannot be read[/red]: {plain(pin.problem)}")
    if len(shown) < len(pins):
        say(f"[dim]and {len(pins) - len(shown)} before them; --all lists them[/dim]")


def _tell_changes(changed: SnapshotDiff) -> None:
    for what, keys in (("added", changed.added), ("corrected", changed.corrected), ("removed", changed.removed)):
        say(f"[bold]{len(keys)}[/bold] {what}")
        for key in keys:
            days = changed.late.get(key) if what != "removed" else None
            late = f" [yellow]late by {days} day{'s' if days > 1 else ''}[/yellow]" if days else ""
            say(f"  {plain(key)}{late}")
    for partition in changed.released:
        say(f"rows of {plain(partition)} were given back")


def _progress(message: str) -> None:
    console(stderr=True).print(f"[dim]{message}[/dim]")


def _silent(_message: str) -> None:
    """Say nothing."""
