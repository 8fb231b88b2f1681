"""Commands about quarantine: what is left out of the nights and why, and giving back what is right."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratchet.cli.connect import connect_for
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import account, plain, print_json, readable, say

if TYPE_CHECKING:
    from ratchet.steps.release import Held, HeldRow

_SHOWN = 3  # reasons of one partition in a list
group = typer.Typer(
    no_args_is_help=True, help="What is left out of the nights, and giving it back: list, show, release."
)
Which = Annotated[
    str, typer.Argument(help="The partition's day, or its key where rows carry their date.", metavar="PARTITION")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group.command(name="list")(list_)
    for command in (show, release):
        group.command()(command)
    app.add_typer(group, name="quarantine")


def list_(
    pipeline: Name,
    *,
    cutoff: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The night; by default the newest.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List what a night has left out: partitions as a whole, and rows one by one, with the reasons."""
    from ratchet.home import load_pipeline
    from ratchet.steps.release import held

    services, loaded = connect_for(pipeline, home), load_pipeline(pipeline, home)
    snapshot, every = held(services, loaded, cutoff.date() if cutoff else None)
    if as_json:
        print_json(
            {"pipeline": pipeline, "cutoff": str(snapshot.cutoff), "snapshot": snapshot.digest, "held": _json(every)}
        )
        return
    if not every:
        say(f"{pipeline} {snapshot.cutoff}: nothing is in quarantine")
    for mine in every:
        _tell(mine)


def show(
    pipeline: Name,
    partition: Which,
    *,
    values: Annotated[
        bool, typer.Option("--values", help="Also print what stands in the rows; it may be personal.")
    ] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="Show so many rows at most.")] = 20,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what is held against a partition, and its rows that are left out one by one: file, number and reasons."""
    from ratchet.home import load_pipeline
    from ratchet.steps.release import rows

    services, loaded = connect_for(pipeline, home), load_pipeline(pipeline, home)
    mine, found = rows(services, loaded, partition, values=values)
    if as_json:
        told = [row.model_dump(mode="json", exclude=None if values else {"values"}) for row in found[:most]]
        print_json({**_json([mine])[0], "rows": told})
        return
    _tell(mine, every=True)
    for row in found[:most]:
        _tell_row(row)
    if len(found) > most:
        say(f"[dim]and {len(found) - most} more rows; --most {len(found)} shows all[/dim]")
    if mine.kept:
        say(f"[dim]all are kept in {plain(mine.kept)}, with their columns[/dim]")


def release(
    pipeline: Name,
    partition: Which,
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; kept with the decision.", show_default=False, callback=readable)
    ],
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row",
            help="Only this row, as `show` numbers it; may be given several times. By default all that is left out.",
            metavar="[FILE:]ROW",
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Give back a partition, or rows of it: the next night reads them, as a new version of the partition."""
    from ratchet.home import load_pipeline
    from ratchet.steps.release import release as give_back

    services, loaded = connect_for(pipeline, home), load_pipeline(pipeline, home)
    made = give_back(services, loaded, partition, row or (), actor=account(), reason=reason)
    if as_json:
        print_json({"digest": made.digest, **made.model_dump(mode="json")})
        return
    what = "all that was left out" if made.rows is None else f"{len(made.rows)} row{'s' if len(made.rows) > 1 else ''}"
    say(f"{pipeline}: {what} of {plain(made.partition)} is given back to the next night that pins a snapshot")
    say(f"  {plain(made.actor)}, {made.at}: {plain(made.reason)}")
    say("  [dim]a night that has trained already keeps what it has read, unless it is run with --repin[/dim]")


def _tell(mine: Held, *, every: bool = False) -> None:
    what = "the whole partition" if mine.whole else f"{mine.left_out} of {mine.landed} rows"
    given = f", of which the next night takes in {mine.given_back}" if mine.given_back else ""
    say(f"[bold]{plain(mine.partition)}[/bold] {what}{f' ({mine.landed} rows)' if mine.whole else ''}{given}")
    shown = mine.reasons if every else mine.reasons[:_SHOWN]
    for found in shown:
        say(f"  {plain(str(found))}")
    if len(shown) < len(mine.reasons):
        say(f"  [dim]and {len(mine.reasons) - len(shown)} more[/dim]")


def _tell_row(row: HeldRow) -> None:
    say(f"  {plain(row.key)} row {row.row}: {plain('; '.join(row.reasons))}")
    for name, value in (row.values or {}).items():
        say(f"    [dim]{plain(name)}[/dim] {plain(str(value))}")


def _json(every: Any) -> list[dict[str, Any]]:
    return [{**mine.model_dump(mode="json"), "reasons": [str(found) for found in mine.reasons]} for mine in every]
