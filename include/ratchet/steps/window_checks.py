"""What single rows cannot show: the checks over the whole window, before training and on the features.

Each source file is summarised once, and the summary kept by its content: a night's cost follows what is new in it.
"""

from __future__ import annotations

import difflib
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.findings import Finding, acting
from ratchet.domain.leaks import decides
from ratchet.domain.models import CLASSIFIED
from ratchet.domain.records import digest
from ratchet.domain.summaries import FileSummary, Part
from ratchet.domain.window_checks import DayShares, compared, each_once, findings, looked_at, missing_values
from ratchet.errors import DataRejected, ObjectNotFound, Problem, SpecInvalid
from ratchet.local_cache import use
from ratchet.provenance import libraries
from ratchet.steps import frames, quarantine
from ratchet.steps.snapshot import date_column, load
from ratchet.tables import LABELS, SummaryPlan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import pyarrow as pa

    from ratchet.domain.night import ValidateResult
    from ratchet.domain.snapshots import Pin, Snapshot
    from ratchet.domain.windows import Span
    from ratchet.steps.context import Context
    from ratchet.tables import FeatureFrame, Floats

_LAYOUT = 4  # of the summaries; another number makes them anew
_PARALLEL = 8  # summaries that are read at once
_BATCH = 16  # files that are brought here and summarised at once
_SAMPLE, _STRETCHES = 20_000, 200  # rows that are looked at for a leak, and in how many pieces they lie
_REASONS = {"overlap": "time"}  # of a rejection, where it is not what was found


def window_findings(ctx: Context, validated: ValidateResult) -> tuple[Finding, ...]:
    """Compare the night's days with those before them; what is in quarantine is left out.

    Raises:
        DataRejected: ``time`` (rows from the future, or on both sides of the cut), or the kind of what the spec rejects.
        SpecInvalid: a column that the checks are told of is not there.
    """
    snapshot = load(ctx)
    parts = _parts(ctx, snapshot, validated)
    _refuse_future(ctx, parts)
    checks = ctx.pipeline.spec.validation.window
    found = findings(parts, ctx.windows, _fresh(ctx, snapshot), checks)
    return unless_rejected(found)


def feature_findings(ctx: Context, frame: FeatureFrame) -> tuple[Finding, ...]:
    """Look at the features of labelled rows: for one that decides the label, and for values that are missing."""
    checks = ctx.pipeline.spec.validation.window
    found: list[Finding] = []
    if checks.leak.action != "off":
        found += _leaks(ctx, frame.table)
    if checks.nulls.action != "off":
        found += _missing(ctx, frame)
    return tuple(found)


def unless_rejected(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings, unless one of them ends the night.

    Raises:
        DataRejected: what the spec rejects; the others are named with it.
    """
    first = next((finding for finding in found if finding.action == "reject"), None)
    if first is not None:
        others = [f"{finding.kind} {finding.subject}" for finding in found if finding is not first]
        also = f". Found as well: {', '.join(others)}" if others else ""
        raise DataRejected(_REASONS.get(first.kind, first.kind), f"{first.words}{also}")
    return tuple(found)


def _fresh(ctx: Context, snapshot: Snapshot) -> frozenset[date]:
    """Return the days that this night sees for the first time, or anew: the newest always, lest a night run again be silent."""
    assert ctx.night.snapshot
    difference, pins = ctx.night.snapshot.difference, snapshot.tables["rows"]
    new, back = {*difference.added, *difference.corrected}, set(difference.released)
    mine = [pin for pin in pins if difference.previous is None or pin.key in new or pin.partition_name in back]
    days = {day for pin in mine for day in _days(pin)}
    newest = max((day for pin in pins for day in _days(pin) if day in snapshot.window), default=None)
    return frozenset(days | ({newest} if newest else set()))


def _days(pin: Pin) -> tuple[date, ...]:
    return (pin.day,) if pin.day else pin.days or ()


# --- summaries


class _Asked(NamedTuple):
    """One source file, and the rows that are left out of it."""

    pin: Pin
    without: tuple[int, ...]
    name: str  # of its summary


def _parts(ctx: Context, snapshot: Snapshot, validated: ValidateResult) -> list[Part]:
    """Return the window's files day by day, each summarised at most once in its life."""
    plan, left_out = _plan(ctx), quarantine.exclusions(ctx.services, ctx.pipeline.name, validated)
    asked = [
        _Asked(pin, without, digest([pin.sha256, str(pin.day or ""), without]))
        for pin in snapshot.tables["rows"]
        if pin.partition_name not in left_out.partitions and not pin.problem
        for without in [left_out.of(pin)]
    ]
    how = digest([_LAYOUT, libraries()["duckdb"], plan.model_dump(mode="json"), _reading(ctx)])
    with ThreadPoolExecutor(_PARALLEL) as pool:
        known = dict(zip(asked, pool.map(lambda one: _kept(ctx, how, one), asked), strict=True))
    missing = [one for one in asked if known[one] is None]
    for i in range(0, len(missing), _BATCH):
        ctx.say(f"summarising {min(i + _BATCH, len(missing))} of {len(missing)} new files")
        known |= _summarised(ctx, how, plan, missing[i : i + _BATCH])
    window = ctx.windows.whole
    return [
        Part(one.pin.key, day)
        for one in asked
        if (summary := known[one])
        for day in summary.days
        if day.day in window and day.rows
    ]


def _plan(ctx: Context) -> SummaryPlan:
    spec, checks = ctx.pipeline.spec, ctx.pipeline.spec.validation.window
    return SummaryPlan(
        date_column=date_column(spec.source),
        target=spec.target.sql,
        regression=spec.target.task not in CLASSIFIED,
        ignore=spec.source.ignore,
        key=checks.key,
        event_time=checks.event_time,
        event_slack_hours=checks.event_slack_hours,
    )


def _reading(ctx: Context) -> dict[str, Any]:
    return ctx.pipeline.spec.source.model_dump(mode="json", include={"format", "columns", "null_values", "delimiter"})


def _kept(ctx: Context, how: str, one: _Asked) -> FileSummary | None:
    """Return a summary that was made before, by this machine or another."""
    here = _here(ctx, how, one)
    if use(ctx.services.cache, here):
        with suppress(ValidationError, OSError):  # whatever has come of it: the store has it too
            return FileSummary.model_validate_json(here.read_bytes())
    try:
        data = ctx.services.store.get(layout.summary(ctx.pipeline.name, how, one.name))
    except ObjectNotFound:
        return None
    _keep(here, data)
    return FileSummary.model_validate_json(data)


def _summarised(ctx: Context, how: str, plan: SummaryPlan, asked: Sequence[_Asked]) -> dict[_Asked, FileSummary]:
    files = [
        file.model_copy(update={"without": one.without})
        for one, file in zip(
            asked, frames.readable(ctx, ctx.pipeline.spec.source, [one.pin for one in asked]), strict=True
        )
    ]
    made = dict(zip(asked, ctx.services.engine.summaries(files, plan), strict=True))
    for one, summary in made.items():
        data = summary.model_dump_json().encode()
        ctx.services.store.put(layout.summary(ctx.pipeline.name, how, one.name), data)
        _keep(_here(ctx, how, one), data)
    return made


def _here(ctx: Context, how: str, one: _Asked) -> Path:
    return ctx.services.cache / "summaries" / f"{one.name}-{how[:16]}.json"


def _keep(here: Path, data: bytes) -> None:
    """Keep a summary on this machine too: a year of them is a request each."""
    here.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=here.parent, prefix=".", delete=False) as aside:
        aside.write(data)
    Path(aside.name).replace(here)


def _refuse_future(ctx: Context, parts: Sequence[Part]) -> None:
    """Refuse rows whose event lies after the day that they landed for, and columns of the spec that no file has."""
    checks = ctx.pipeline.spec.validation.window
    known = sorted({name for part in parts for name in part.summary.missing})
    asked = [(f"key[{i}]", name) for i, name in enumerate(checks.key)]
    asked += [("event_time", checks.event_time)] if checks.event_time else []
    lower = {name.lower() for name in known}
    for key, name in asked if parts else ():
        if name.lower() not in lower:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f". It has {', '.join(known)}"
            raise _wrong(ctx, key, f"the source has no column {name!r}{hint}")
    if not checks.event_time:
        return
    if all(part.summary.future is None for part in parts) and parts:
        raise _wrong(
            ctx, "event_time", f"column {checks.event_time!r} holds no DATE or TIMESTAMP, nor text that reads as one"
        )
    future = [part for part in parts if part.summary.future]
    if not future:
        _refuse_untold(parts, checks.event_time)
        return
    rows, first = sum(part.summary.future or 0 for part in future), future[0]
    named = ", ".join(str(row) for row in first.summary.future_rows)
    others = f" (and in {len(future) - 1} more files)" if len(future) > 1 else ""
    slack = f" and {checks.event_slack_hours:g} hours" if checks.event_slack_hours else ""
    raise DataRejected(
        "time",
        f"{rows} rows are from the future: in {first.key}{others} {checks.event_time} lies after {first.summary.day}{slack}, the day "
        f"that they landed for; row {named}{' …' if (first.summary.future or 0) > len(first.summary.future_rows) else ''}. Land them "
        "with the day that they are of; where the column is in another time zone, set validation.window.event_slack_hours",
    )


def _refuse_untold(parts: Sequence[Part], event_time: str) -> None:
    """Refuse files in which the time of an event cannot be read: whether they are from the future has not been checked."""
    untold = [part for part in parts if part.summary.future is None]
    if untold:
        others = f" (and in {len(untold) - 1} more files)" if len(untold) > 1 else ""
        raise DataRejected(
            "time",
            f"whether rows are from the future cannot be told: in {untold[0].key}{others} {event_time} holds values that are no DATE or "
            "TIMESTAMP, nor text that reads as one. Mend them and land the file again, or let an expectation of the suite find these rows, so that they are left out",
        )


def _wrong(ctx: Context, key: str, words: str) -> SpecInvalid:
    return SpecInvalid([Problem(f"pipelines/{ctx.pipeline.name}.yaml", f"validation.window.{key}", words)])


# --- features


def _missing(ctx: Context, frame: FeatureFrame) -> list[Finding]:
    """Compare each day's null rates of the features with those of the days before."""
    checks, by_day = ctx.pipeline.spec.validation.window, _shares(frame, ctx.windows.whole)
    fresh = _fresh(ctx, load(ctx))
    return each_once(
        [
            (day, finding)
            for day, history in compared(sorted(by_day), ctx.windows, fresh, checks)
            if looked_at(checks.nulls.action, day, fresh)
            for finding in missing_values(day, by_day[day], [by_day[d] for d in history], checks, "feature")
        ]
    )


def _shares(frame: FeatureFrame, days: Span) -> dict[date, DayShares]:
    """Count the nulls of each feature by day."""
    import pyarrow.compute as pc  # noqa: PLC0415

    nulls, features = pc.CountOptions(mode="only_null"), _features(frame.table)
    wanted = [("dt", "count"), *((name, "count", nulls) for name in features)]
    counted: dict[date, Counter[str]] = {}
    for batch in frame.batches(days.first, days.last):
        counts = batch.select(["dt", *features]).group_by("dt").aggregate(wanted)
        columns = [counts[f"{name}_count"].to_pylist() for name in ("dt", *features)]
        for day, *found in zip(counts["dt"].to_pylist(), *columns, strict=True):
            counted.setdefault(day, Counter()).update(dict(zip(("dt", *features), found, strict=True)))
    return {
        day: DayShares(rows=found["dt"], missing={name: found[name] for name in features})
        for day, found in counted.items()
    }


def _leaks(ctx: Context, table: pa.Table) -> list[Finding]:
    """Try each feature alone on a sample of the rows."""
    check, task = ctx.pipeline.spec.validation.window.leak, ctx.pipeline.spec.target.task
    rows = _sampled(table)
    if task not in CLASSIFIED and _is_text(rows["target"].type):
        return []  # the fit refuses it, and says why
    labels = _coded(rows["target"]) if task in CLASSIFIED else _numbers(rows["target"])
    limit, what = (
        (check.r2, "explains {:.2%} of the label's variance")
        if task not in CLASSIFIED
        else (
            check.auc,
            "ranks the labels with an AUC of {:.4f}",
        )
    )
    found = []
    for name in _features(rows):
        if name in check.allowed:
            continue
        categories = _is_category(rows[name].type)
        values = _coded(rows[name]) if categories else _numbers(rows[name])
        value, of = decides(values, labels, task, categories=categories)
        if value is not None and value >= limit:
            having = f"the {of} of {rows.num_rows} rows that have it" if of < rows.num_rows else f"{of} rows"
            words = (
                f"feature {name} alone {what.format(value)} (of {having}): it is probably known only once the label is. Leave it "
                "out of the query and add its column to source.unknown_at_prediction; where it is known in time, name it in "
                "validation.window.leak.allowed"
            )
            found.append(
                Finding(kind="leak", action=acting(check.action), subject=name, words=words, value=value, limit=limit)
            )
    return found


def _features(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in LABELS]


def _sampled(table: pa.Table) -> pa.Table:
    """Return stretches of rows from the whole window: the same ones every time, and no more than suffice."""
    import pyarrow as pa  # noqa: PLC0415

    if table.num_rows <= _SAMPLE:
        return table
    size = _SAMPLE // _STRETCHES
    return pa.concat_tables(
        [table.slice(i * (table.num_rows - size) // (_STRETCHES - 1), size) for i in range(_STRETCHES)]
    )


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa  # noqa: PLC0415

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_category(kind: pa.DataType) -> bool:
    import pyarrow as pa  # noqa: PLC0415

    return not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_temporal(kind)
    )


def _numbers(column: pa.ChunkedArray) -> Floats:
    """Return numbers, and times as such, NaN where there is none."""
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    if pa.types.is_temporal(column.type):
        whole = pa.int32() if column.type.bit_width == 32 else pa.int64()  # noqa: PLR2004
        column = column.cast(whole)
    numbers: Floats = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy()
    return numbers


def _spelled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values that are no texts as Python writes them."""
    import pyarrow as pa  # noqa: PLC0415

    return pa.chunked_array([[None if value is None else str(value) for value in column.to_pylist()]], pa.string())


def _coded(column: pa.ChunkedArray) -> Floats:
    """Return each value's number, of all values in order, NaN where there is none."""
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    odd = pa.types.is_nested(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    texts = column.cast(pa.string()) if not odd else _spelled(column)
    known = pc.sort_indices(texts.unique().drop_null())
    values = texts.unique().drop_null().take(known)
    codes: Floats = pc.fill_null(pc.index_in(texts, value_set=values).cast(pa.float64()), np.nan).to_numpy()
    return codes
