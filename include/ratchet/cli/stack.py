"""Commands about the embedded stack."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.cli.show import console, print_json, say

if TYPE_CHECKING:
    from ratchet.stack import Progress, Status

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, status):
        app.command()(command)


def up() -> None:
    """Start the S3 server, MLflow and Airflow on this machine, and say where they are."""
    show(start())


def down() -> None:
    """Stop everything that `ratchet up` started, and nothing else. What was stored stays."""
    from ratchet import stack

    found = stack.down(progress=told)
    say("stopped; what was stored is kept, `ratchet up` starts it again" if found else "nothing was running")


def status(*, as_json: Json = False) -> None:
    """Say what runs, where, since when and how it is. Exit status 1 when something is not well."""
    from ratchet import stack

    found = stack.status()
    print_json(found.model_dump(mode="json")) if as_json else show(found)
    if not found.healthy:
        sys.exit(1)


def start() -> Status:
    """Start what does not run, and tell of it."""
    from ratchet import stack

    return stack.up(progress=told)


def told(happened: Progress) -> None:
    """Print one thing that happened to a service."""
    colour = {"healthy": "green", "done": "green", "crashed": "red", "unhealthy": "red", "note": "yellow"}.get(
        happened.state, "dim"
    )
    console(stderr=True).print(
        f"[dim]{happened.seconds:6.1f} s[/dim]  {happened.service:<22} [{colour}]{happened.state}[/{colour}] {happened.detail}"
    )


def show(found: Status) -> None:
    """Print the stack as a table, with addresses and how to log in."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("service", "state", "pid", "up", "address")
    for s in found.services:
        colour = "green" if s.healthy else "red"
        since = f"{s.uptime / 60:.0f} min" if s.uptime else ""
        table.add_row(s.name, f"[{colour}]{s.state}[/{colour}]", str(s.pid or ""), since, s.address or "")
    if found.services:
        console().print(table)
        say(f"[dim]logs: {Path(found.services[0].log).parent}/<service>.log[/dim]")
    for s in found.services:
        for line in s.last_words[-5:]:
            say(f"[red]{s.name}[/red] {escape(line)}")
    if found.note:
        say(f"[yellow]{found.note}[/yellow]")
    addresses(found)


def addresses(found: Status) -> None:
    """Print the pages and how to log in."""
    if "airflow" in found.addresses:
        say(
            f"Airflow  [bold]{found.addresses['airflow']}[/bold]  user [bold]admin[/bold]  password [bold]{found.users.get('admin', '')}[/bold]"
        )
    if "mlflow" in found.addresses:
        say(f"MLflow   [bold]{found.addresses['mlflow']}[/bold]")
