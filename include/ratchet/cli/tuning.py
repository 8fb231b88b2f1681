"""The searches for a pipeline's parameters: what they tried, and what they found."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer

from ratchet.cli.connect import connect_for
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import print_json, search_json, tell_search
from ratchet.errors import UsageError

CUTOFF = typer.Option(formats=["%Y-%m-%d"], help="The night that searched; by default the last that did.")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tuning)


def tuning(
    pipeline: Name,
    *,
    cutoff: Annotated[datetime | None, CUTOFF] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show a search for parameters: its trials, the best first, why it was made and what it found.

    Each trial is an MLflow run below the search's. When the next search is due the spec says under training.tuning.
    """
    from ratchet.home import load_pipeline
    from ratchet.steps.tune import searches

    services, loaded = connect_for(pipeline, home), load_pipeline(pipeline, home)
    made = searches(services, loaded.spec.name, cutoff.date() if cutoff else date.max)
    if cutoff:
        made = [found for found in made if found.cutoff == cutoff.date()]
    if not made:
        if cutoff:
            why = f"no search of {cutoff.date()} is on record; `ratchet tuning {pipeline}` shows the last"
        elif loaded.spec.training.tuning:
            why = "none has been made yet; the next night makes one"
        else:
            why = "its spec asks for none (`training: {tuning: {trials: 30}}`)"
        raise UsageError(f"{pipeline}: no search to show: {why}")
    if as_json:
        print_json(search_json(made[-1], loaded.spec.loss))
        return
    tell_search(made[-1], loaded.spec.loss)
