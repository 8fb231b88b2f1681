"""segments: after the night of all rows, a night for each value of a column, on the same snapshot, validation and features.

A segment's night is a whole one: a league, a challenger, gates and a ledger under the segment's own name. What is the same for all of them is
taken from the night of all rows: what was pinned and validated, what the checks over the data have found, and the parameters that tuning chose.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ratchet.domain import layout
from ratchet.domain.ledger import champion_of
from ratchet.domain.night import OfAllRows
from ratchet.domain.segments import (
    Segment,
    SegmentNight,
    SegmentPlan,
    SegmentsResult,
    SegmentStanding,
    name_of,
    parent_of,
    slug_of,
    standing,
    visible,
)
from ratchet.errors import RowsUnaccounted, UsageError
from ratchet.steps import frames, overview
from ratchet.steps.context import Context, silent
from ratchet.steps.night import begin, go_on, run_key, tuned
from ratchet.steps.overview import newest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    from ratchet.domain.models import ModelVersion
    from ratchet.domain.night import Night
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services
    from ratchet.tables import FeatureFrame

    Watch = Callable[[str, str], None]

_AT_ONCE = 8  # ledgers that are read at once
_NAMED = 20  # segments, in a message


class SegmentUnknown(UsageError):
    """No night has seen such a segment."""

    def __init__(self, pipeline: str, asked: str, known: Sequence[str]) -> None:
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        shown = ", ".join(visible(value) for value in known[:_NAMED]) + more
        super().__init__(f"{pipeline} has no segment {asked!r}; the newest night has seen: {shown or 'none'}")


def plan(ctx: Context) -> SegmentPlan:
    """List the segments of a night that has come to a verdict, those of most rows first; every labelled row is in one, or has no value.

    Raises:
        SpecInvalid: the column is no feature, or has too many values.
        RowsUnaccounted: the segments' rows do not add up to the window's.
    """
    asked = ctx.pipeline.spec.segments
    assert asked, "only a pipeline that asks for segments has any"
    frame, parts = frames.segmented(ctx, ctx.pipeline.sql)
    to_fit = _running_count(frame, ctx.windows.fit.first, ctx.windows.fit.last)
    order = sorted(parts.parts.items(), key=lambda item: (-item[1].rows, item[1].value))
    found = []
    for place, (slug, part) in enumerate(order):
        fit = int(to_fit[part.first + part.rows] - to_fit[part.first])
        if part.value in asked.skip:
            why = "segments.skip names it"
        elif place >= asked.most:
            why = f"it is not among the {asked.most} of most rows (segments.most)"
        elif fit < asked.min_rows:
            why = f"{fit} rows to fit on, segments.min_rows is {asked.min_rows}"
        else:
            why = ""
        found.append(Segment(value=part.value, slug=slug, rows=part.rows, to_fit=fit, without=why))
    made = SegmentPlan(by=asked.by, rows=parts.rows, of_none=parts.of_none, segments=tuple(found))
    if made.missing:
        why = f"{made.missing} of {made.rows} rows are in no segment"
        raise RowsUnaccounted(ctx.pipeline.name, why, f"{made.of_none} have no {made.by}")
    ctx.say(f"{len(made.fitted)} of {len(found)} segments by {made.by} get a night of their own")
    return made


def _running_count(frame: FeatureFrame, first: date, last: date) -> np.ndarray:
    """Return how many of the rows before each row, and before the end, lie in some days."""
    import pyarrow as pa  # noqa: PLC0415

    days = frame.table["dt"].cast(pa.int32()).to_numpy()
    epoch = np.datetime64("1970-01-01", "D")
    low, high = ((np.datetime64(day, "D") - epoch).astype(int) for day in (first, last))
    return np.concatenate([[0], np.cumsum((days >= low) & (days <= high))])


def run_segment(
    night: Night, pipeline: Pipeline, segment: Segment, services: Services, watch: Watch | None = None
) -> tuple[SegmentNight, BaseException | None]:
    """Run one segment's night, whatever comes of it.

    Args:
        night: of all rows; it has come to a verdict.
        pipeline: its pipeline.
        segment: whose night.
        services: the adapters.
        watch: hears which step runs.

    Returns:
        How it came out, and the error that ended it where one did that was not foreseen.
    """
    own = pipeline.of_segment(segment.slug)
    made, error = go_on(started(night, own), own, services, watch)
    promoted = made.promote if made.promote and made.promote.serves else None
    before = made.score.champion if made.score else None
    told = SegmentNight(
        value=segment.value,
        slug=segment.slug,
        outcome=made.outcome,
        reason="; ".join(made.reasons)[:500],
        version=made.register_.version.version if made.register_ and made.register_.version else None,
        champion=promoted.version if promoted else before.version if before else None,
        turned=_turned(made),
        appended=bool(promoted and promoted.appended),
        entry=promoted.entry if promoted else None,
        back=before if made.score and made.score.rolled_back else None,
        back_entry=made.score.reign if made.score and made.score.rolled_back else None,
        page=made.report.page if made.report else "",
        seconds=round(sum(made.seconds.values()), 3),
    )
    return told, error


def _turned(night: Night) -> ModelVersion | None:
    """Return who became champion by a night, in this attempt at it or in an earlier one."""
    made = night.promote
    if made is None or not made.serves:
        return None
    versions = (night.gate and night.gate.candidate, night.register_ and night.register_.version)
    return next((v for v in versions if v and v.version == made.version), None)


def started(night: Night, own: Pipeline) -> Night:
    """Return a segment's night as it begins: with all that the night of all rows has found for everybody."""
    assert night.snapshot
    assert night.validate_
    # An override is about the verdict on all rows; of a segment's a person says so on its version.
    asked = night.request.model_copy(update={"pipeline": own.name, "override": False, "repin": False})
    found = (*night.validate_.findings, *(night.train.findings if night.train else ()))
    kept = night.evaluate  # what would serve the segment otherwise has predicted
    begun = begin(asked, own).model_copy(
        update={
            "snapshot": night.snapshot,
            "validate_": night.validate_.model_copy(update={"findings": found}),
            "tune": night.tune,
            "of_all": kept and OfAllRows(predictions=kept.predictions, sha256=kept.predictions_sha256),
        }
    )
    recipe = tuned(begun, own).recipe
    return begun.model_copy(update={"recipe_spec": recipe, "run_key": run_key(begun, night.snapshot.digest)})


def run_all(
    night: Night, pipeline: Pipeline, services: Services, watch: Watch | None = None
) -> tuple[SegmentsResult, BaseException | None]:
    """Run the nights of all segments one after the other, and conclude.

    Returns:
        What became of them, and the first error that was not foreseen.
    """
    say = (lambda message: watch("segments", message)) if watch else silent
    ctx = Context(pipeline=pipeline, night=night, services=services, say=say)
    planned, nights, first = plan(ctx), [], None
    for number, segment in enumerate(planned.fitted, start=1):
        value = visible(segment.value)
        say(f"{value} ({number} of {len(planned.fitted)}, {segment.rows} rows)")
        made, error = run_segment(night, pipeline, segment, services)
        say(f"{value}: {made.outcome}" + (f", {made.reason}" if made.outcome in {"failed", "rejected"} else ""))
        nights.append(made)
        first = first or error
    return conclude(ctx, planned, nights), first


def conclude(ctx: Context, planned: SegmentPlan, nights: Sequence[SegmentNight]) -> SegmentsResult:
    """Say who serves each segment now, and keep it; a segment whose night left no word has failed."""
    night, services, name = ctx.night, ctx.services, ctx.pipeline.name
    assert night.run_key
    told = {made.slug: made for made in nights}
    # A night that ended before the league has scored does not know who serves.
    silent_ones = [s.slug for s in planned.segments if s.slug not in told or told[s.slug].champion is None]
    before = dict(zip(silent_ones, _champions(services, name, silent_ones), strict=True))
    serving = champion_of(services.ledger.entries(name))
    made = SegmentsResult(
        pipeline=name,
        cutoff=night.request.cutoff,
        run_key=night.run_key,
        by=planned.by,
        rows=planned.rows,
        of_none=planned.of_none,
        champion=serving.version if serving else None,
        dry_run=night.request.dry_run,
        segments=tuple(standing(s, told.get(s.slug), before.get(s.slug)) for s in planned.segments),
    )
    run = night.run_key[:16] + ("-dry" if night.request.dry_run else "")
    key = layout.segments_of(name, night.request.cutoff, run)
    services.store.put(key, made.model_dump_json(indent=1).encode())
    if not night.request.dry_run:
        overview.segmented(services, made)
    ctx.say(made.words[:2000])
    return made


def _champions(services: Services, pipeline: str, slugs: Sequence[str]) -> list[int | None]:
    """Return the versions that serve segments by their own ledgers."""

    def serving(slug: str) -> int | None:
        champion = champion_of(services.ledger.entries(name_of(pipeline, slug)))
        return champion.version if champion else None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(serving, slugs))


def standing_now(services: Services, found: SegmentsResult) -> SegmentsResult:
    """Return who serves each segment by its ledger as it is now: a person may have acted since the night."""
    slugs = [segment.slug for segment in found.segments]
    champions = _champions(services, found.pipeline, slugs)
    now = zip(found.segments, champions, strict=True)
    serving = champion_of(services.ledger.entries(found.pipeline))
    return found.model_copy(
        update={
            "champion": serving.version if serving else None,
            "segments": tuple(_as_of_now(segment, champion) for segment, champion in now),
        }
    )


def _as_of_now(segment: SegmentStanding, champion: int | None) -> SegmentStanding:
    why = segment.why if champion is None or segment.champion is not None else ""
    return segment.model_copy(update={"champion": champion, "why": why})


def resolve(services: Services, pipeline: str, asked: str) -> str:
    """Return the name of a segment's model; ``asked`` is the segment's value or its slug.

    Raises:
        SegmentUnknown: no night has seen it.
    """
    found = newest(services, parent_of(pipeline))
    known = {segment.slug: segment.value for segment in found.segments} if found else {}
    slug = next((slug for slug, value in known.items() if value == asked), asked if asked in known else slug_of(asked))
    name = name_of(parent_of(pipeline), slug)
    if slug not in known and not any(services.store.list(layout.ledger(name))):
        raise SegmentUnknown(pipeline, asked, list(known.values()))
    return name
