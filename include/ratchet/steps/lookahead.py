"""The nightly audit for features that look past the event, and for days that judge what has learnt from them.

The features of a few days are computed again from tables that end with those days. A feature that comes out otherwise has used
what came later: no row that is scored in time could have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ratchet.domain.findings import Finding, acting
from ratchet.domain.lookahead import changed, in_turn, met, shape
from ratchet.domain.records import Record
from ratchet.errors import DataRejected, Problem, SpecInvalid
from ratchet.steps import frames
from ratchet.steps.snapshot import load
from ratchet.tables import LABELS

if TYPE_CHECKING:
    from datetime import date

    import pyarrow as pa

    from ratchet.steps.context import Context
    from ratchet.tables import FeatureFrame, Floats

_TRIES = 3  # days beyond those asked for, where tables that end earlier cannot be read


class Audited(Record):
    """What was found, and what was looked at."""

    findings: tuple[Finding, ...] = ()
    words: tuple[str, ...] = ()


class _Day(NamedTuple):
    """A day's features, as they were and as they are."""

    day: date
    then: pa.Table
    now: pa.Table
    half: bool  # of the day's events only


def look(ctx: Context) -> Audited:
    """Compute the features of a few days again from tables that end there, and compare.

    Which days follows from the snapshot: other ones on other nights. A segment's night takes over what was found of all rows.

    Raises:
        SpecInvalid: a side table has no such column as its ``known_at``.
    """
    if ctx.pipeline.spec.validation.window.lookahead.action == "off" or ctx.pipeline.segment:
        return Audited()
    frame, asked = frames.feature_frame(ctx, ctx.pipeline.sql), ctx.pipeline.spec.validation.window.lookahead.days
    _refuse_strangers(ctx, frame)
    days, why = _days(ctx, frame, asked)
    if not days:
        words = (
            f"whether a feature looks past the event could not be seen: {why or 'no table reaches back before the newest day'}. A side table that lands "
            "as a whole hides it; land it by day, or set validation.window.lookahead.action: off"
        )
        return Audited(findings=(Finding(kind="lookahead", action="warn", subject="features", words=words),))
    found: dict[str, Finding] = {}
    for day in days:
        for finding in _compared(ctx, day):
            found.setdefault(finding.subject, finding)
    told = "; ".join(f"{d.then.num_rows} rows of {d.day}" for d in days)
    words = f"features computed again from tables that end there: {told}"
    if ctx.pipeline.spec.validation.window.event_time is None:
        words += "; not what comes later on the same day, since validation.window.event_time names no column"
    return Audited(findings=tuple(found.values()), words=(words,))


def judged(ctx: Context) -> Audited:
    """Hold the days that judge tonight's models against those that these have learnt from."""
    score, holdout = ctx.night.score, ctx.windows.holdout
    tuner = ctx.night.tune.seen_through if ctx.night.tune else None
    champion = score.champion if score else None  # a replay fits ahead of the night that scores
    days = [day.day for day in score.scores if champion and day.version == champion.version] if score else []
    known = {
        "challenger": ctx.windows.stop.last,
        "tuner": tuner,
        "champion": champion.seen_through if champion else None,
    }
    told = ", ".join(f"{name} has met none after {day}" for name, day in known.items() if day)
    words = f"the hold-out begins on {holdout.first}; {told}"
    found = met(holdout, ctx.windows.stop.last, champion, days, tuner)
    return Audited(findings=tuple(found), words=(words,))


def _refuse_strangers(ctx: Context, frame: FeatureFrame) -> None:
    for name, side in ctx.pipeline.spec.source.tables.items():
        known = frame.columns.get(name, {})
        if side.known_at and side.known_at.lower() not in {column.lower() for column in known}:
            words = f"the table has no column {side.known_at!r}; it has {', '.join(known)}"
            raise SpecInvalid([Problem(f"pipelines/{ctx.pipeline.name}.yaml", f"source.tables.{name}.known_at", words)])


def _days(ctx: Context, frame: FeatureFrame, wanted: int) -> tuple[list[_Day], str]:
    """Return so many days with their features, or why there is none."""
    snapshot = load(ctx)
    firsts = [
        min((d for pin in pins for d in ((pin.day,) if pin.day else pin.days or ())), default=None)
        for pins in snapshot.tables.values()
    ]
    there = [day for day in frame.table["dt"].unique().to_pylist() if day < ctx.windows.newest]
    there = [day for day in there if all(first is not None and first <= day for first in firsts)]
    found: list[_Day] = []
    why = ""
    for day in in_turn(there, snapshot.digest)[: wanted + _TRIES]:
        if len(found) == wanted:
            break
        ctx.say(f"computing the features of {day} again, from tables that end there")
        try:
            cut = frames.feature_frame_cut(ctx, ctx.pipeline.sql, day)
        except (DataRejected, SpecInvalid) as exc:  # of a column that has come since, say
            why = f"over tables that end with {day} the query does not run: {exc}"[:300]
            continue
        then, now = cut.days(day, day), frame.days(day, day)
        if then.column_names == now.column_names:
            found.append(_Day(day, then, now, half=ctx.pipeline.spec.validation.window.event_time is not None))
    return found, why


def _compared(ctx: Context, day: _Day) -> list[Finding]:
    """Return a finding for each feature that is another, and for rows that the query keeps or leaves out by what came later."""
    import numpy as np  # noqa: PLC0415

    checks = ctx.pipeline.spec.validation.window
    when = f"half of the events of {day.day} ({checks.event_time})" if day.half else str(day.day)
    ids, others = day.then["row_id"].to_numpy(), day.now["row_id"].to_numpy()
    _, then, now = np.intersect1d(ids, others, assume_unique=True, return_indices=True)
    parts = {"were left out": 0 if day.half else len(others) - len(now), "were kept": len(ids) - len(then)}
    found = []
    if sum(parts.values()):
        told = ", ".join(f"{count} {words}" for words, count in parts.items() if count)
        words = f"the query chooses rows of {day.day} by what came later: when the tables end with {when}, {told} that now are not"
        found.append(_finding(checks.lookahead.action, "rows", words, sum(parts.values()) / max(len(others), 1)))
    for name in day.now.column_names:
        if name in LABELS or name in checks.lookahead.allowed or not _learnable(day.now[name].type):
            continue
        counts = changed(*_values(day.then[name], day.now[name], then, now))
        rows = sum(counts.values())
        if rows:
            words = f"feature {name} of {rows} of {len(now)} rows of {day.day} is another when the tables end with {when}: {shape(counts)}"
            found.append(_finding(checks.lookahead.action, name, words, rows / len(now)))
    return found


def _finding(action: str, subject: str, words: str, share: float) -> Finding:
    todo = (
        "It uses rows that come after the event, or follows an order that other rows decide: bound its windows and joins by time (ASOF, "
        "ROWS/RANGE … PRECEDING); where it is known in time all the same, name it in validation.window.lookahead.allowed"
    )
    return Finding(
        kind="lookahead", action=acting(action), subject=subject, words=f"{words}. {todo}", value=share, limit=0.0
    )


def _learnable(kind: pa.DataType) -> bool:
    """Say whether a booster reads such a column; the fit refuses any other in words of its own."""
    import pyarrow as pa  # noqa: PLC0415

    t = pa.types
    return not (t.is_nested(kind) or t.is_temporal(kind) or t.is_binary(kind) or t.is_large_binary(kind))


def _values(then: pa.ChunkedArray, now: pa.ChunkedArray, rows: Any, others: Any) -> tuple[Floats, Floats, str]:
    """Return a feature's values of the same rows as numbers, and what kind of numbers they are."""
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    then, now = then.take(pa.array(rows)), now.take(pa.array(others))
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    if all(any(kind(column.type) for kind in numbers) for column in (then, now)):
        kind = "float" if pa.float32() in (then.type, now.type) else "double"
        values = [pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy() for column in (then, now)]
        return values[0], values[1], kind
    texts = [column.cast(pa.string()) for column in (then, now)]
    known = pc.unique(pa.chunked_array([chunk for text in texts for chunk in text.chunks], pa.string()).drop_null())
    codes = [pc.fill_null(pc.index_in(text, value_set=known).cast(pa.float64()), np.nan).to_numpy() for text in texts]
    return codes[0], codes[1], "code"
