"""The command that builds a registered version again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.cli.connect import connect
from ratchet.cli.night import Json, Name
from ratchet.cli.show import Watch, plain, print_json, say

if TYPE_CHECKING:
    from ratchet.steps.reproduce import Reproduced


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reproduce)


def reproduce(
    pipeline: Name,
    version: Annotated[int, typer.Argument(help="The model version's number in the registry.", metavar="VERSION")],
    *,
    as_json: Json = False,
) -> None:
    """Build a version again from its snapshot and recipe, and compare every byte. Nothing is stored.

    The exit status is 0 when the bytes are identical; else 1, and what differs is named: code, library or machine.
    """
    from ratchet.steps.reproduce import reproduce as build

    with Watch(quiet=as_json) as watch:
        watch("reproduce", "")
        found = build(connect(), pipeline, version, lambda words: watch("reproduce", words))
    if as_json:
        print_json({**found.model_dump(mode="json"), "identical": found.identical})
    else:
        _tell(found)
    sys.exit(0 if found.identical else 1)


def _tell(found: Reproduced) -> None:
    if found.identical:
        say(
            f"[bold green]IDENTICAL[/bold green] version {found.version} of {plain(found.pipeline)} ({found.cutoff}): {found.built}"
        )
    else:
        say(f"[bold red]DIFFERENT[/bold red] version {found.version} of {plain(found.pipeline)} ({found.cutoff})")
        say(f"  recorded {found.recorded}\n  built    {found.built}")
        differing = [name for name, same in found.files.items() if not same]
        say(f"  other bytes in {plain(', '.join(differing))}")
    for ingredient in found.differing:
        say(f"  [yellow]{plain(ingredient.name)}[/yellow]: then {plain(ingredient.then)}, now {plain(ingredient.now)}")
    if not found.identical and not found.differing:
        say("  No ingredient on record differs. Was the night made by another kind of processor?")
