"""The command that watches from outside: for cron, where nothing else may be alive."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ratchet.cli.connect import connect
from ratchet.cli.night import Home, Json
from ratchet.cli.show import print_json, say

if TYPE_CHECKING:
    import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(overdue)


def overdue(*, home: Home = None, as_json: Json = False) -> None:
    """Tell of every pipeline whose night has come to no decision by its deadline. Exit status 1 where there is one."""
    from rich.markup import escape

    from ratchet.home import default_home, load_pipeline, pipeline_names
    from ratchet.steps.overdue import overdue as look

    where, services, now = home or default_home(), connect(), datetime.now(UTC)
    found = {name: look(services, load_pipeline(name, where), now) for name in pipeline_names(where)}
    late = {name: words for name, words in found.items() if words}
    if as_json:
        print_json(late)
    for name, words in late.items() if not as_json else ():
        say(f"[red]{name}[/red]: {escape(words)}")
    if not late and not as_json:
        say("every pipeline has its decision")
    if late:
        sys.exit(1)
