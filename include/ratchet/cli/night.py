"""Commands about pipelines and their nights."""

from __future__ import annotations

import sys
import traceback
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratchet.cli.connect import connect, connect_for
from ratchet.cli.show import (
    Watch,
    account,
    night_json,
    plain,
    print_json,
    readable,
    say,
    segments_json,
    tell,
    tell_segments,
)
from ratchet.errors import RatchetError, SpecInvalid, UsageError

if TYPE_CHECKING:
    from ratchet.domain.night import Night
    from ratchet.domain.segments import SegmentsResult
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Folder with pipelines/, suites/ and features/; by default RATCHET_HOME or include/.",
        envvar="RATCHET_HOME",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Name = Annotated[str, typer.Argument(help="The pipeline's name.", metavar="PIPELINE")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (run, champion, check, schema):
        app.command()(command)


def run(  # noqa: PLR0913  a command's options
    pipeline: Name,
    cutoff: Annotated[
        datetime, typer.Option("--cutoff", formats=["%Y-%m-%d"], help="The night's date: data up to it is seen.")
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide everything, change nothing.")] = False,
    repin: Annotated[
        bool, typer.Option("--repin", help="Read what lies in the store now, although this night has a snapshot.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Wait until the data is complete, as long as the spec's completion allows from now."
        ),
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; goes to the record.", callback=readable)] = "",
    override: Annotated[
        bool,
        typer.Option("--override", help="Promote although the verdict is UNDECIDED, where override.allowed names you."),
    ] = False,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a spec value: training.params.max_depth=4", metavar="KEY=VALUE"),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Run one night in this process."""
    from ratchet.domain.night import NightRequest
    from ratchet.home import load_pipeline
    from ratchet.steps.completion import wait as hold_back
    from ratchet.steps.context import Context
    from ratchet.steps.night import begin, run_night
    from ratchet.steps.promote import may_override

    overrides = _overrides(values or [])
    loaded, actor = load_pipeline(pipeline, home, overrides), account()
    if loaded.segment:
        raise UsageError(
            f"{pipeline} is a segment: its night belongs to that of all rows; `ratchet run {loaded.spec.name}`"
        )
    problem = may_override(loaded, actor, reason) if override else None
    if problem:
        raise UsageError(problem)
    services = connect()
    request = NightRequest(
        pipeline=pipeline,
        cutoff=cutoff.date(),
        dry_run=dry_run,
        repin=repin,
        override=override,
        reason=reason,
        overrides=overrides,
        actor=actor,
    )
    with Watch(quiet=as_json) as watch:
        if wait:
            watch("wait", "")
            hold_back(Context(loaded, begin(request, loaded), services, lambda message: watch("wait", message)))
        night, error = run_night(request, loaded, services, watch)
        found, wrong = _of_segments(night, loaded, services, watch)
    if as_json:
        shown = night_json(night, None if error else services)  # who serves cannot be asked of what just failed
        print_json({**shown, "segments": segments_json(found)} if loaded.spec.segments else shown)
    else:
        tell(night)
        if found:
            tell_segments(found)
    error = error or wrong
    if error is not None and not isinstance(error, RatchetError):
        traceback.print_exception(error)
        sys.exit(1)
    if error is not None:
        raise error
    outcomes = {night.outcome, *(segment.outcome for segment in (found.failed if found else ()))}
    sys.exit(1 if "failed" in outcomes else 3 if "rejected" in outcomes else 0)


def _of_segments(
    night: Night, pipeline: Pipeline, services: Services, watch: Watch
) -> tuple[SegmentsResult | None, BaseException | None]:
    """Run the nights of the segments where the spec asks for them and the night of all rows has come to a verdict."""
    from ratchet.steps.segments import run_all

    if pipeline.spec.segments is None or night.gate is None:
        return None, None
    watch("segments", "")
    try:
        return run_all(night, pipeline, services, watch)
    except Exception as exc:  # noqa: BLE001  the night of all rows is told of whatever went wrong
        return None, exc


def champion(
    pipeline: Name,
    *,
    segment: Annotated[
        str | None, typer.Option("--segment", help="Of one segment, by its value or its slug.", metavar="VALUE")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say which version serves, since when and why; of a segment that has no champion of its own, the global one."""
    from datetime import UTC

    from ratchet.domain.ledger import champion_of, frozen, reign
    from ratchet.steps import turns

    services = connect_for(pipeline, home)
    if segment is not None:
        from ratchet.domain.segments import parent_of
        from ratchet.steps.segments import resolve

        own = resolve(services, pipeline, segment)
        if champion_of(turns.look(services, own)):
            pipeline = own
        else:
            pipeline = parent_of(pipeline)
            if not as_json:
                say(f"segment {plain(segment)} has no champion of its own; the global one serves it")
    entries = turns.look(services, pipeline)
    served, since, freeze = champion_of(entries), reign(entries), frozen(entries, datetime.now(UTC).date())
    held = freeze.model_dump(mode="json", include={"seq", "actor", "reason", "at", "until"}) if freeze else None
    if freeze and not as_json:
        until = f"until {freeze.until}" if freeze.until else "until it is thawed"
        say(f"[cyan]frozen {until}[/cyan] by {plain(freeze.actor)} (ledger entry {freeze.seq}): {plain(freeze.reason)}")
    if served is None or since is None:
        nobody = {"pipeline": pipeline, "version": None, "run_key": None, "frozen": held}
        print_json(nobody) if as_json else say(f"{pipeline} has no champion yet")
        return
    alias = services.registry.alias(pipeline, "champion")
    if as_json:
        found = {
            **since.model_dump(mode="json", include={"action", "at", "actor", "reason", "reasons"}),
            **served.model_dump(mode="json"),
        }
        print_json({"pipeline": pipeline, **found, "entry": since.seq, "alias": alias, "frozen": held})
        return
    say(
        f"[bold]{pipeline}[/bold] is served by version [bold]{served.version}[/bold] (cutoff {served.cutoff}, run {served.run_key[:12]})"
    )
    say(f"since {since.at}, by {plain(since.actor)}, ledger entry {since.seq} ({since.action})")
    for why in since.reasons:
        say(f"  {plain(why)}")
    if alias != served.version:
        say(
            f"[yellow]the MLflow alias names version {alias}; the next night, or `ratchet reconcile {pipeline}`, sets it right[/yellow]"
        )


def check(*, home: Home = None) -> None:
    """Check every pipeline of the home, with its suite and SQL, before anything runs."""
    from ratchet.adapters.duck import check as check_sql
    from ratchet.adapters.gx import check_suite
    from ratchet.home import default_home, load_pipeline, pipeline_names

    where = home or default_home()
    names = pipeline_names(where)
    if not names:
        raise UsageError(f"no pipelines in {where}/pipelines; add one as <name>.yaml")
    problems = []
    for name in names:
        try:
            loaded = load_pipeline(name, where)
        except SpecInvalid as exc:
            found = list(exc.problems)
        else:
            suite = where / "suites" / f"{loaded.spec.validation.suite}.json"
            found = [*check_sql(loaded), *check_suite(loaded.suite, str(suite))]
        say(f"[green]✓[/green] {name}" if not found else f"[red]✗[/red] {name}")
        problems += found
    if problems:
        raise SpecInvalid(problems)


def schema() -> None:
    """Print the JSON Schema of a pipeline file, for editors."""
    from ratchet.spec import json_schema

    print_json(json_schema())


def _overrides(given: list[str]) -> dict[str, Any]:
    from ratchet.wording import read_value

    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {text}: expected KEY=VALUE, such as training.params.max_depth=4")
        found[key] = read_value(value)
    return found
