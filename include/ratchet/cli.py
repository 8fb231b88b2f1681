"""The command line: the same steps as the nightly DAG, in one process, and the services that they need.

Exit status: 0 a decision (promoted, refused, undecided or skipped), 1 an unexpected failure, 2 the spec or the command is
wrong, 3 the data was rejected.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from ratchet.errors import RatchetError, SpecInvalid, UsageError

if TYPE_CHECKING:
    from ratchet.domain.night import Night
    from ratchet.steps.context import Services

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False, rich_markup_mode="rich"
)

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


def main() -> None:
    """Run the command line; turn our errors into words and exit statuses."""
    try:
        app()
    except RatchetError as exc:
        _complain(exc)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
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
    reason: Annotated[str, typer.Option("--reason", help="Why; goes to the record.")] = "",
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a spec value: training.params.max_depth=4", metavar="KEY=VALUE"),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Run one night in this process."""
    from ratchet.domain.night import NightRequest
    from ratchet.spec import load_pipeline
    from ratchet.steps.night import run_night

    overrides = _overrides(override or [])
    loaded = load_pipeline(pipeline, home, overrides)
    services = _services()
    request = NightRequest(
        pipeline=pipeline,
        cutoff=cutoff.date(),
        dry_run=dry_run,
        repin=repin,
        reason=reason,
        overrides=overrides,
        actor=os.environ.get("USER") or "command line",
    )
    with _Watch(quiet=as_json) as watch:
        night, error = run_night(request, loaded, services, watch)
    if as_json:
        _print_json(_night_json(night, services))
    else:
        _tell(night)
    if error is not None:
        if isinstance(error, RatchetError):
            _complain(error)
            sys.exit(error.exit_code)
        traceback.print_exception(error)
        sys.exit(1)
    sys.exit({"rejected": 3, "failed": 1}.get(night.outcome, 0))


@app.command()
def champion(pipeline: Name, *, home: Home = None, as_json: Json = False) -> None:
    """Say which version serves, since when and why."""
    services = _services_for(pipeline, home)
    entries = services.ledger.entries(pipeline)
    if not entries:
        _print_json({"pipeline": pipeline, "version": None}) if as_json else _say(f"{pipeline} has no champion yet")
        return
    head = entries[-1]
    found = {
        "pipeline": pipeline,
        **head.champion.model_dump(mode="json"),
        "entry": head.seq,
        "action": head.action,
        "at": head.at,
        "actor": head.actor,
        "reason": head.reason,
        "reasons": list(head.reasons),
        "alias": services.registry.alias(pipeline, "champion"),
    }
    if as_json:
        _print_json(found)
        return
    _say(
        f"[bold]{pipeline}[/bold] is served by version [bold]{head.champion.version}[/bold] (cutoff {head.champion.cutoff}, run {head.champion.run_key[:12]})"
    )
    _say(f"since {head.at}, by {head.actor}, ledger entry {head.seq} ({head.action})")
    for why in head.reasons:
        _say(f"  {why}")
    if found["alias"] != head.champion.version:
        _say(
            f"[yellow]the MLflow alias names version {found['alias']}; the next night, or `ratchet reconcile {pipeline}`, sets it right[/yellow]"
        )


@app.command()
def history(
    pipeline: Name,
    *,
    limit: Annotated[int, typer.Option(help="At most so many nights.")] = 30,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List nights and how they ended, newest first, and the ledger."""
    from ratchet.steps.history import nights

    services = _services_for(pipeline, home)
    found, entries = nights(services, pipeline, limit), services.ledger.entries(pipeline)
    if as_json:
        listed = [_night_json(n) for n in found]
        _print_json({"pipeline": pipeline, "nights": listed, "ledger": [e.model_dump(mode="json") for e in entries]})
        return
    from rich.table import Table

    table = Table("cutoff", "outcome", "version", "rows", "why", title=f"{pipeline}: {len(entries)} ledger entries")
    for n in found:
        version = n.register_.version.version if n.register_ and n.register_.version else ""
        rows = f"{n.snapshot.rows:,}" if n.snapshot else ""
        table.add_row(str(n.request.cutoff), _coloured(n.outcome), str(version), rows, "; ".join(n.reasons))
    _console().print(table)


@app.command()
def reconcile(pipeline: Name, *, home: Home = None) -> None:
    """Verify the ledger and set the MLflow alias right."""
    from ratchet.steps.champion import reconcile as set_right

    services = _services_for(pipeline, home)
    entries = services.ledger.entries(pipeline)
    _say(
        set_right(services, pipeline, entries)
        or f"{pipeline}: {len(entries)} ledger entries hold, and the alias follows them"
    )


@app.command()
def check(*, home: Home = None) -> None:
    """Check every pipeline of the home, with its suite and SQL, before anything runs."""
    from ratchet.adapters.duck import check as check_sql
    from ratchet.adapters.gx import check_suite
    from ratchet.spec import default_home, load_pipeline, pipeline_names

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
        _say(f"[green]✓[/green] {name}" if not found else f"[red]✗[/red] {name}")
        problems += found
    if problems:
        raise SpecInvalid(problems)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a pipeline file, for editors."""
    from ratchet.spec import json_schema

    _print_json(json_schema())


def _overrides(given: list[str]) -> dict[str, Any]:
    import yaml

    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {text}: expected KEY=VALUE, such as training.params.max_depth=4")
        found[key] = yaml.safe_load(value)
    return found


def _services() -> Services:
    """Build the services from the environment, or from the embedded stack where that runs."""
    from ratchet.wiring import services

    return services()


def _services_for(pipeline: str, home: Path | None) -> Services:
    """Build the services for a question about a pipeline that must exist."""
    from ratchet.errors import PipelineUnknown
    from ratchet.spec import default_home, pipeline_names

    where = home or default_home()
    names = pipeline_names(where)
    if pipeline not in names:
        raise PipelineUnknown(pipeline, str(where), names)
    return _services()


def _night_json(night: Night, services: Services | None = None) -> dict[str, Any]:
    """Return what `--json` promises of a night."""
    request, snapshot = night.request, night.snapshot
    found: dict[str, Any] = {
        "pipeline": request.pipeline,
        "cutoff": str(request.cutoff),
        "dry_run": request.dry_run,
        "run_key": night.run_key,
        "snapshot": {"digest": snapshot.digest, "partitions": snapshot.partitions, "rows": snapshot.rows}
        if snapshot
        else None,
        "outcome": night.outcome,
        "reasons": list(night.reasons),
        "checks": [c.model_dump(mode="json") for c in night.gate.verdict.checks] if night.gate else [],
        "model_version": night.register_.version.version if night.register_ and night.register_.version else None,
        "metrics": {"challenger": night.evaluate.challenger, "champion": night.evaluate.champion}
        if night.evaluate
        else {},
        "seconds": night.seconds,
        "report": night.report.page if night.report else None,
    }
    if services is not None:
        entries = services.ledger.entries(request.pipeline)
        serving = entries[-1].champion if entries else None
        found["champion"] = {"version": serving.version, "run_key": serving.run_key} if serving else None
        found["artifact_digest"] = night.train.artifact_digest if night.train else None
    return found


class _Watch:
    """Shows which step runs and what it does, on standard error; silent where JSON is wanted."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._status: Any = None
        self._step = ""

    def __enter__(self) -> Self:
        if not self._quiet:
            self._status = _console(stderr=True).status("starting")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, step: str, message: str) -> None:
        if self._status is None:
            return
        if step != self._step:
            self._step = step
            self._status.console.print(f"[bold]{step}[/bold]")
        self._status.update(f"{step}: {message}" if message else step)


def _tell(night: Night) -> None:
    from ratchet.steps.report import headline

    outcome, _, why = headline(night).partition(":")
    _say(
        f"[bold]{_coloured(night.outcome)}[/bold] {night.request.pipeline} {night.request.cutoff}{outcome.removeprefix(night.outcome.upper())}:{why}"
    )
    if night.gate:
        for c in night.gate.verdict.checks:
            _say(f"  {_coloured(c.outcome.lower())} {c.name}: {c.reason}")
    _say(
        f"[dim]{sum(night.seconds.values()):.1f} s: "
        + ", ".join(f"{step} {s:.1f}" for step, s in night.seconds.items())
        + "[/dim]"
    )


_COLOURS = {
    "promoted": "green",
    "pass": "green",
    "refused": "magenta",
    "fail": "red",
    "undecided": "yellow",
    "skipped": "cyan",
    "rejected": "red",
    "failed": "red",
    "not_applicable": "dim",
}


def _coloured(outcome: str) -> str:
    colour = _COLOURS.get(outcome, "white")
    return f"[{colour}]{outcome.upper()}[/{colour}]"


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def _say(message: str) -> None:
    _console().print(message)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def _complain(error: RatchetError) -> None:
    sys.stderr.write(f"{error}\n")
