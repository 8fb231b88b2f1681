"""Commands about suites."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from ratchet.cli.connect import connect
from ratchet.cli.night import Home, Name
from ratchet.cli.show import Watch, plain, say
from ratchet.errors import UsageError

group = typer.Typer(no_args_is_help=True, help="The expectations that data must meet: draft.")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group.callback()(_suites)
    group.command()(draft)
    app.add_typer(group, name="suite")


def _suites() -> None:
    """Commands about the expectations that data must meet."""


def draft(
    pipeline: Name,
    *,
    cutoff: Annotated[
        datetime | None,
        typer.Option("--cutoff", formats=["%Y-%m-%d"], help="The newest day to look at; by default the newest landed."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write; by default the draft is printed.", metavar="FILE")
    ] = None,
    home: Home = None,
) -> None:
    """Propose a suite from the days that have landed, with bounds that they support, as JSON to edit and review.

    The pipeline's suite need not exist yet.
    """
    import json

    from ratchet.adapters.duck_history import DuckHistory
    from ratchet.domain.night import Night, NightRequest
    from ratchet.home import load_without_suite
    from ratchet.steps.context import Context
    from ratchet.steps.draft import draft as propose

    if to and to.exists():
        raise UsageError(f"{to} exists. Draft into another file, compare the two, and keep what you have reviewed")
    loaded = load_without_suite(pipeline, home)
    night = Night(request=NightRequest(pipeline=pipeline, cutoff=cutoff.date() if cutoff else date.max))
    with Watch(quiet=to is None) as watch:
        made = propose(
            Context(pipeline=loaded, night=night, services=connect(), say=lambda message: watch("draft", message)),
            DuckHistory(),
            cutoff.date() if cutoff else None,
        )
    text = json.dumps(made.suite, indent=2, ensure_ascii=False) + "\n"
    if to is None:
        typer.echo(text, nl=False)
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(text)
    first, last = made.partitions[0], made.partitions[-1]
    say(
        f"{len(made.suite['expectations'])} expectations in {plain(str(to))}, which hold on all {len(made.partitions)} partitions from {first} to {last} ({made.rows:,} rows)"
    )
    for skipped in made.skipped:
        say(f"[yellow]not looked at[/yellow] {plain(skipped)}")
    for dropped in made.dropped:
        say(f"[yellow]left out, it does not hold[/yellow] {plain(dropped)}")
    say("Edit what history cannot know, then put it at the suite's place in suites/ and run `ratchet check`")
