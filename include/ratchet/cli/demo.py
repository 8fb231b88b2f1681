"""The demo: real flights, a real Airflow, a week of nights."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.cli.connect import connect, use_stack
from ratchet.cli.show import console, say
from ratchet.errors import ServiceError, UsageError

if TYPE_CHECKING:
    from ratchet.demo.feed import Landed
    from ratchet.steps.context import Services

PIPELINE = "flight_delay"
_FEED = "demo_feed"
_NIGHT = timedelta(hours=3)  # when flight_delay retrains, UTC

demo = typer.Typer(
    invoke_without_command=True, help="Real flights, a real Airflow, a week of nights; or only parts of it."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(demo, name="demo")


@demo.callback()
def whole(
    context: typer.Context,
    nights: Annotated[
        int, typer.Option(min=1, max=60, help="How many nights to replay, up to the one before today.")
    ] = 7,
) -> None:
    """Start the stack, land flights up to yesterday, and replay a week of nights through Airflow."""
    if context.invoked_subcommand:
        return
    from ratchet.cli.stack import addresses, start

    say("[bold]1/3[/bold] starting the services")
    found = start()
    services = connect()
    today = datetime.now(UTC)
    last = (today - _NIGHT).date() - timedelta(days=1)  # the newest day whose night has begun
    say("[bold]2/3[/bold] landing flights in s3://lake/")
    from ratchet.demo.feed import land_live

    landed = land_live(services.store, today=today.date(), say=_dim)
    _landed(landed)
    say(
        f"[bold]3/3[/bold] {nights} nights of {PIPELINE}, by a backfill in Airflow: {found.addresses['airflow']}/dags/{PIPELINE}"
    )
    _replay(services, [last - timedelta(days=n) for n in reversed(range(nights))])
    say("")
    addresses(found)
    say(
        "The services go on: each night at 02:00 UTC new flights land, and at 03:00 the model retrains. `make down` stops them."
    )


@demo.command()
def land(
    *,
    through: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Land every day up to this one.")
    ] = None,
    history_days: Annotated[int | None, typer.Option(min=1, help="At most so many days up to it.")] = None,
    one_more_day: Annotated[bool, typer.Option("--next", help="Land the day after the newest.")] = False,
    year: Annotated[bool, typer.Option("--year", help="Land the whole of 2013.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Land what was flown up to yesterday, shifted by whole weeks.")
    ] = False,
    shift_weeks: Annotated[int, typer.Option(help="Move all dates by so many weeks.")] = 0,
) -> None:
    """Land real flights and weather by day: history up to a date, one more day, the whole year, or a live feed."""
    from ratchet.demo import feed

    if (through is not None) + one_more_day + year + live != 1:
        raise UsageError("say which days: one of --through DATE, --next, --year and --live")
    use_stack()
    if "RATCHET_S3_ENDPOINT" not in os.environ:  # without it, boto3 would go looking for AWS itself
        raise UsageError("no object store: start the services with `ratchet up`, or name yours in RATCHET_S3_ENDPOINT")
    from ratchet.wiring import object_store

    store = object_store()
    store.ensure_bucket("lake")
    if live:
        landed = feed.land_live(store, today=datetime.now(UTC).date(), say=_dim)
    elif one_more_day:
        landed = feed.land_next(store, shift_weeks=shift_weeks, say=_dim)
    else:
        last = through.date() if through else feed.YEAR.last
        landed = feed.land(store, through=last, history_days=history_days, shift_weeks=shift_weeks, say=_dim)
    _landed(landed)


def _replay(services: Services, cutoffs: list[date]) -> None:
    from rich.markup import escape

    from ratchet.airflow_api import AirflowApi
    from ratchet.demo.replay import replay
    from ratchet.domain.ledger import champion_of

    airflow = AirflowApi(*(os.environ[f"RATCHET_AIRFLOW_{name}"] for name in ("URL", "USER", "PASSWORD")))
    with console(stderr=True).status("waiting for Airflow") as status:
        airflow.wait_for_dag(_FEED)
        airflow.unpause(_FEED)
        found = replay(airflow, services, PIPELINE, cutoffs, lambda words: say(escape(words)), status.update)
    entries = services.ledger.entries(PIPELINE)
    if len(found) < len(cutoffs) or not entries:
        missing = sorted({str(c) for c in cutoffs} - {str(n.request.cutoff) for n in found})
        raise ServiceError(
            "demo",
            "replaying the nights",
            f"no record of {', '.join(missing) or 'a promotion'}; look at the runs in Airflow",
        )
    say("")
    served = champion_of(entries)
    say(
        f"[bold]{PIPELINE} is served by version {served.version if served else None}[/bold], and this is how it got there:"
    )
    for entry in entries:
        of = f" of version {entry.champion.version}, cutoff {entry.champion.cutoff}" if entry.champion else ""
        say(f"  {entry.seq}. {entry.action}{of}: {escape('; '.join(entry.reasons) or entry.reason)}")
    newest = max(found, key=lambda night: night.request.cutoff)
    for check in newest.gate.verdict.checks if newest.gate else ():
        if check.kind == "evidence":
            say(f"The evidence as of {newest.request.cutoff}: {escape(check.reason)}")
    say(
        f"What retraining would have been worth, night by night: [bold]ratchet replay {PIPELINE} --from … --to …[/bold]; "
        f"back to who served before: [bold]ratchet rollback {PIPELINE} --reason …[/bold]"
    )


def _landed(landed: Landed) -> None:
    say(
        f"{landed.flights:,} flights of {landed.days}: {landed.objects} objects written, {landed.unchanged} were there already"
    )


def _dim(message: str) -> None:
    console(stderr=True).print(f"[dim]{message}[/dim]")
