"""The plots of slices: each value's metric with its interval, challenger beside champion."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from ratchet.adapters.report.sides import short
from ratchet.adapters.report.svg import Axis, Figure, Plot, axis
from ratchet.adapters.report.view import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.domain.night import EvaluateResult, Night

_VALUES = 14  # of a column, those with most rows


def slices(night: Night, metric: str) -> Iterator[tuple[str, Figure]]:
    """Draw one metric over the values of each slice column."""
    found = night.evaluate
    rows: dict[str, list[tuple[str, int, float]]] = {}
    for key, value in found.case.metrics.items() if found else ():
        name, bracket, place = key.partition("[")
        column, _, text = place[:-1].partition("=")
        if bracket and name == metric and value.value is not None and isfinite(value.value):
            rows.setdefault(column, []).append((text, value.rows, value.value))
    for column, values in rows.items():
        if found and len(values) > 1:
            yield column, _dots(found, metric, column, sorted(values, key=lambda v: (-v[1], v[0]))[:_VALUES])


def _dots(found: EvaluateResult, metric: str, column: str, values: list[tuple[str, int, float]]) -> Figure:
    marks = []
    for text, rows, value in values:
        key = f"{metric}[{column}={text}]"
        theirs = found.differences[key].champion if key in found.differences else None
        marks.append((text, rows, value, found.case.intervals.get(key), theirs))
    whole = found.challenger.get(metric)
    reach = [v for _, _, value, interval, theirs in marks for v in (value, *(interval or ()), theirs) if v is not None]
    reach += [whole] if whole is not None and isfinite(whole) else []
    labels = tuple((i + 0.5, short(text, 12)) for i, (text, *_) in enumerate(marks))
    plot = Plot(
        axis(min(reach), max(reach), metric), Axis(len(marks), 0, labels), height=60 + 19.0 * len(marks), left=92
    )
    if whole is not None and isfinite(whole):
        plot.line((whole, whole), (0, len(marks)), "ref")
    for i, (text, rows, value, interval, theirs) in enumerate(marks):
        said = f"{text}: {number(value)} over {rows:,} rows"
        if interval and all(isfinite(side) for side in interval):
            said += f", 95 % {number(interval[0])} … {number(interval[1])}"
            plot.line(interval, (i + 0.5, i + 0.5), "challenger thin")
        if theirs is not None:
            plot.dot(theirs, i + 0.5, "champion", f"{text}: the champion {number(theirs)}", radius=3)
        plot.dot(value, i + 0.5, "challenger", said, radius=4)
    there = any(theirs is not None for *_, theirs in marks)
    keys = (("challenger", "challenger"), *([("champion", "champion")] if there else []))
    note = "lines are 95 % intervals over days; the dashed line is all rows"
    return Figure(f"{metric} by {column}", plot.svg(f"{metric} of each value of {column}"), keys, note)
