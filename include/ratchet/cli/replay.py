"""Commands that try rules on the past: replay runs the nights again in a world of its own, whatif judges their records anew."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from ratchet.cli.connect import connect, use_stack
from ratchet.cli.night import Home, Json, Name
from ratchet.cli.show import coloured, console, print_json, say
from ratchet.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.domain.checks import Outcome
    from ratchet.domain.policies import Period, PolicyName, Replayed, Turn
    from ratchet.settings import Settings
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services
    from ratchet.steps.whatif import WhatIf

_LISTED = 8  # false refusals on the terminal; the page has all of them

_DAY = ["%Y-%m-%d"]
_GATES = "YAML file with a list `gates:`, which takes the place of the spec's."


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (replay, whatif):
        app.command()(command)


def replay(  # noqa: PLR0913  a command's options
    pipeline: Name,
    *,
    first: Annotated[datetime, typer.Option("--from", formats=_DAY, help="The first night.")],
    last: Annotated[datetime, typer.Option("--to", formats=_DAY, help="The last day; data up to it is used.")],
    every: Annotated[int, typer.Option("--every", min=1, help="Days from one night to the next.")] = 1,
    gates: Annotated[Path | None, typer.Option("--gates", help=_GATES)] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes; by default as many as there are processors.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the page; by default replay-<pipeline>/ here.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard what earlier replays of this pipeline have kept.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Run past nights as if each were tonight, apart from the real champion, and compare with other policies."""
    from ratchet.adapters.report.replay import page
    from ratchet.domain.policies import Range
    from ratchet.domain.records import digest
    from ratchet.provenance import code_digest
    from ratchet.settings import settings
    from ratchet.steps.crew import Crew
    from ratchet.steps.replay import replay as play

    loaded = _with_gates(pipeline, home, gates)
    wanted = Range(first=first.date(), last=last.date(), every=every)
    use_stack()
    found = settings()
    base = found.cache / "replays" / pipeline
    key = digest([loaded.model_dump(mode="json"), wanted.model_dump(mode="json")])[:16]
    with _alone(base), _without_alerts():
        if fresh:
            _discard(base)
        kept = base / code_digest()[:16] / key
        worlds = partial(_world, found, loaded, kept, base / "shared")
        with Crew(worlds, jobs or os.cpu_count() or 1) as crew, _Progress(quiet=as_json) as progress:
            replayed = play(loaded, wanted, crew, progress)
    folder = out or Path(f"replay-{pipeline}")
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "replay.html"
    written.write_bytes(page(replayed, loaded))
    if as_json:
        print_json({**_as_json(replayed), "page": str(written), "kept": str(kept)})
        return
    _tell(replayed)
    say(f"[dim]page: {written}; the nights are kept in {kept}, so that the same replay goes on where it was[/dim]")


@contextmanager
def _without_alerts() -> Iterator[None]:
    """Keep alerts of the past out of the log; they stand in the pages of its nights."""
    alerts = logging.getLogger("ratchet.alerts")
    alerts.disabled = True
    try:
        yield
    finally:
        alerts.disabled = False


def whatif(
    pipeline: Name,
    *,
    gates: Annotated[Path, typer.Option("--gates", help=_GATES)],
    first: Annotated[datetime | None, typer.Option("--from", formats=_DAY, help="The first night.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=_DAY, help="The last night.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Judge recorded nights by other gates, without training, and list those whose verdict would have been another."""
    from ratchet.steps.whatif import whatif as judge_again

    loaded = _with_gates(pipeline, home, gates)
    found = judge_again(loaded, connect(), first.date() if first else None, last.date() if last else None)
    if as_json:
        flips = [night.model_dump(mode="json") for night in found.flips]
        print_json({**found.model_dump(mode="json"), "flips": flips, "counts": _verdicts(found)})
        return
    _tell_whatif(found)


def _tell_whatif(found: WhatIf) -> None:
    from rich.markup import escape

    counts = ", ".join(f"{n} {was_would}" for was_would, n in _verdicts(found).items())
    say(
        f"[bold]{found.pipeline}[/bold]: {len(found.nights)} recorded nights, {len(found.flips)} would flip ({counts or 'none'})"
    )
    if found.without_verdict:
        say(f"[dim]{found.without_verdict} nights ended before they were judged[/dim]")
    if found.unreadable:
        say(f"[yellow]{found.unreadable} records were written by another version and cannot be read[/yellow]")
    for night in found.flips:
        version = f" v{night.version}" if night.version else ""
        against = f" against v{night.champion}" if night.champion else ", no champion yet"
        say(f"[bold]{night.cutoff}[/bold]{version}{against}: {_verdict(night.was)} → {_verdict(night.would)}")
        say(f"  then: {escape('; '.join(night.reasons))}")
        say(f"  now:  {escape('; '.join(night.would_reasons))}")
    say(
        "[dim]Each night is judged against the champion that served it then. What would have followed from another decision "
        "is not played on; `ratchet replay` does that.[/dim]"
    )


def _verdicts(found: WhatIf) -> dict[str, int]:
    """Count nights by both verdicts."""
    counts: dict[str, int] = {}
    for night in found.nights:
        both = f"{night.was} → {night.would}" if night.flips else f"still {night.was}"
        counts[both] = counts.get(both, 0) + 1
    return counts


def _verdict(outcome: Outcome) -> str:
    return coloured(outcome.lower())


def _world(found: Settings, pipeline: Pipeline, folder: Path, shared: Path, name: str) -> Services:
    """Build the services of one of a replay's worlds; a process of its own calls this."""
    from ratchet.wiring import sandboxed, services

    return sandboxed(services(found), pipeline, folder / name, shared)


def _with_gates(pipeline: str, home: Path | None, gates: Path | None) -> Pipeline:
    from ratchet.home import load_pipeline, with_gates

    loaded = load_pipeline(pipeline, home)
    if gates is None:
        return loaded
    try:
        text = gates.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UsageError(f"{gates}: cannot be read: {reason}; expected a YAML file with a list `gates:`") from exc
    return with_gates(loaded, text, str(gates))


@contextmanager
def _alone(base: Path) -> Iterator[None]:
    """Let one replay of a pipeline at a time work in its folder."""
    import fcntl  # not on Windows, where the other commands should still work

    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (base / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise UsageError(f"another replay of this pipeline works in {base}; wait until it is done") from exc
        yield


def _discard(base: Path) -> None:
    for path in base.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


class _Progress:
    """Shows how far each part is, on standard error; silent where JSON is wanted."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars: dict[str, Any] = {}
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[newest]}"),
            console=console(stderr=True),
            disable=quiet,
        )

    def __enter__(self) -> Self:
        """Begin to show."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def __call__(self, part: str, done: int, total: int, newest: str) -> None:
        """Move a bar."""
        if part not in self._bars:
            self._bars[part] = self._progress.add_task(part, total=total, newest="")
        self._progress.update(self._bars[part], completed=done, newest=newest)


def _as_json(found: Replayed) -> dict[str, Any]:
    return {
        **found.model_dump(mode="json"),
        "counts": _counts(found),
        "retraining_saved": {period.name: period.saved for period in (*found.months, found.total) if period},
        "false_refusals": [{**t.model_dump(mode="json"), "total": t.total} for t in found.false_refusals],
    }


def _counts(found: Replayed) -> dict[str, int]:
    outcomes: dict[str, int] = {}
    for night in found.nights:
        outcomes[night.outcome] = outcomes.get(night.outcome, 0) + 1
    return outcomes


def _tell(found: Replayed) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from ratchet.domain.policies import BY_NIGHT, NEVER, NEWEST, THIS

    counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(_counts(found).items()))
    say(
        f"[bold]{found.pipeline}[/bold]: {len(found.nights)} nights from {found.range.first} to {found.range.last}: {counts}"
    )
    for problem in found.problems[:_LISTED]:
        say(f"[yellow]{escape(problem)}[/yellow]")
    if found.total is None:
        say("no night made a champion, so there is nothing to compare")
        return
    say(
        f"{found.total.rows:,} rows of {found.total.days} days; {found.loss} (lower is better) and {found.metric} of what served:"
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    names = (THIS, NEVER, NEWEST, BY_NIGHT)  # the page has all policies
    for name in ("", *names, "retraining saved"):
        table.add_column(name, justify="right" if name else "left")
    for period in (*found.months, found.total):
        if period is found.total:
            table.add_section()
        table.add_row(*_row(period, names))
    console().print(table)
    changes, held = [t for t in found.turns if t.action], [t for t in found.turns if not t.action]
    wrong = found.false_refusals
    say(
        f"{len(changes)} changes of champion saved {sum(t.total for t in changes):+.1f} {found.loss} over all rows; "
        f"{len(held)} challengers were held back, of which {len(wrong)} would have been better until the champion next changed"
    )
    if wrong:
        say("the dearest refusals:")
    for turn in wrong[:_LISTED]:
        say(f"  {_cost(turn)}: {coloured(turn.outcome)} {escape('; '.join(turn.reasons))}"[:300])


def _row(period: Period, names: tuple[PolicyName, ...]) -> tuple[str, ...]:
    shown = (period.policies[name] for name in names)
    figures = (f"{f.loss:.4f} {'–' if f.metric is None else f'{f.metric:.3f}'}" for f in shown)
    return period.name, *figures, f"{period.saved:+.4f}"


def _cost(turn: Turn) -> str:
    return f"{turn.cutoff} v{turn.version} instead of v{turn.rival}: {-turn.gain:.5f} a row over {turn.days} days"
