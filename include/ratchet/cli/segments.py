"""The segments of a pipeline: which there are, and who serves each."""

from __future__ import annotations

from typing import Annotated

import typer

from ratchet.cli.connect import connect_for
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import print_json, segments_json, tell_segments
from ratchet.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(segments)


def segments(
    pipeline: Name,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only those whose last night went wrong.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List the segments that the newest night has seen, and who serves each by its ledger as it is now.

    A segment's model has a name of its own, PIPELINE--SLUG, which rollback, freeze, thaw, promote, history and ledger take as
    they take a pipeline's.
    """
    from ratchet.home import load_pipeline
    from ratchet.steps.overview import newest
    from ratchet.steps.segments import standing_now

    services, loaded = connect_for(pipeline, home), load_pipeline(pipeline, home)
    if loaded.segment:
        raise UsageError(f"{pipeline} is a segment itself; ask for {loaded.spec.name}")
    made = newest(services, pipeline)
    if made is None:
        asked = loaded.spec.segments
        why = (
            "no night has run since its spec asks for segments"
            if asked
            else "its spec asks for none (`segments: {by: …}`)"
        )
        raise UsageError(f"{pipeline} has no segments: {why}")
    found = standing_now(services, made)
    if failed:
        found = found.model_copy(update={"segments": found.failed})
    if as_json:
        print_json(segments_json(found))
        return
    tell_segments(found)
