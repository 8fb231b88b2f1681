"""A suite proposed from history: how a pipeline's partitions have been, with room for how the next may be.

Partitions are the units, not rows: a bound is drawn around what each partition's figure has been (its smallest value, its null
rate …). A partition like the n before it leaves the range that these have seen once in (n + 1) / 2, whatever the figure's
distribution: far too often for a bound that throws data away. So each end is moved out, by twice as far as the furthest
partition lies from the middle one; a figure that has never moved gets a tenth of itself. A bound never crosses zero where no
value has: what was never negative stays so.

What a partition's figures decide is critical only where it tells broken data from unusual data: a column that is gone, of
another type, empty or doubled, values far beyond all history. The rest warns.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIN_PARTITIONS = 7  # with fewer, history supports hardly anything
_ROOM = 2.0  # how many times as far as the furthest partition lies from the middle one
_FLAT = 0.1  # of the figure itself, where it has never moved
_CATEGORIES = 30  # more distinct values than these are no categories
_SETTLED = 0.5  # categories are critical when the younger half of history brought none
_ONE_WAY = 0.8  # of steps from one partition to the next, the others' share taken off
_DIGITS = 3
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

Expectation = dict[str, Any]


class ColumnFigures(Record):
    """One column of one partition."""

    type: str  # DuckDB's
    values: int  # that are not missing
    distinct: int
    least: float | None = None  # numbers only
    most: float | None = None
    mean: float | None = None
    shortest: int | None = None  # characters; texts only
    longest: int | None = None
    categories: tuple[str, ...] | None = None  # texts, where they are few


class PartitionFigures(Record):
    """One partition, as one batch."""

    name: str
    weekday: int | None  # 0 is Monday; None where rows carry their date
    rows: int
    columns: dict[str, ColumnFigures]


def propose(name: str, history: Sequence[PartitionFigures], keys: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Propose a suite.

    Args:
        name: the suite's.
        history: partitions, oldest first.
        keys: lists of columns that no two rows of a partition share, in all of them.
    """
    everywhere = [c for c in history[-1].columns if all(c in p.columns for p in history)]
    expectations = [_columns(everywhere, history), _rows(history)]
    expectations += [_key(key, len(history)) for key in keys]
    for column in everywhere:
        expectations += _of_column(column, [p.columns[column] for p in history], [p.rows for p in history])
    notes = (
        f"Drafted from {len(history)} partitions, {history[0].name} to {history[-1].name}. Bounds are the range that the partitions have seen, "
        "each end moved out by twice as far as the furthest partition lies from the middle one. Review each: history tells what "
        "was, not what is right."
    )
    return {"name": name, "expectations": expectations, "meta": {"notes": notes}}


def _expect(kind: str, severity: str, why: str, **kwargs: Any) -> Expectation:
    return {"type": kind, "kwargs": kwargs, "severity": severity, "meta": {"notes": why}}


def _columns(everywhere: Sequence[str], history: Sequence[PartitionFigures]) -> Expectation:
    partly = sorted({c for p in history for c in p.columns} - set(everywhere))
    why = f"All {len(history)} partitions have these columns; one more does no harm."
    if partly:
        why += f" Not in all of them, and so not asked for: {', '.join(partly[:5])}."
    return _expect("expect_table_columns_to_match_set", "critical", why, column_set=list(everywhere), exact_match=False)


def _rows(history: Sequence[PartitionFigures]) -> Expectation:
    counts = [float(p.rows) for p in history]
    low, high = _around(counts, floor=True)
    by_weekday = [
        f"{_WEEKDAYS[day]} {min(rows)} to {max(rows)}"
        for day in range(7)
        if (rows := [p.rows for p in history if p.weekday == day])
    ]
    why = f"Between {min(counts):.0f} and {max(counts):.0f} rows so far" + (
        f" ({', '.join(by_weekday)})" if by_weekday else ""
    )
    return _expect(
        "expect_table_row_count_to_be_between", "critical", f"{why}. A file that was cut short or appended twice leaves the range.",
        min_value=max(1, math.floor(low)), max_value=math.ceil(high),
    )  # fmt: skip


def _key(columns: Sequence[str], partitions: int) -> Expectation:
    why = f"No two rows of a partition have ever shared {'these' if len(columns) > 1 else 'it'}, in {partitions} partitions. Doubled rows weigh double, and sit on both sides of a split."
    if len(columns) == 1:
        return _expect("expect_column_values_to_be_unique", "critical", why, column=columns[0])
    return _expect("expect_compound_columns_to_be_unique", "critical", why, column_list=list(columns))


def _of_column(column: str, figures: Sequence[ColumnFigures], rows: Sequence[int]) -> list[Expectation]:
    filled = [f for f in figures if f.values]
    if not filled:
        return []  # always empty: nothing can be said of its values, and that it is there is asked for above
    # A critical expectation about values that meets none checked nothing, which rejects the partition.
    hard = "critical" if len(filled) == len(figures) else "warning"
    made = [_type(column, figures), _nulls(column, figures, rows)]
    if all(f.least is not None for f in filled):
        if not _moves(filled):
            made += [_range(column, filled, hard), _mean(column, filled)]
    elif all(f.shortest is not None for f in filled):
        made += _text(column, filled, hard)
    return [expectation for expectation in made if expectation]


def _type(column: str, figures: Sequence[ColumnFigures]) -> Expectation | None:
    types = sorted({re.split(r"[ (]", f.type.strip('"'), maxsplit=1)[0] for f in figures})
    if not all(re.fullmatch(r"\w+", kind) for kind in types):
        return None  # lists and the like have no name that GX compares
    why = f"So far {' or '.join(types)}. A column that turns into text is compared as text."
    return _expect("expect_column_values_to_be_in_type_list", "critical", why, column=column, type_list=types)


def _nulls(column: str, figures: Sequence[ColumnFigures], rows: Sequence[int]) -> Expectation | None:
    rates = [1 - f.values / n for f, n in zip(figures, rows, strict=True) if n]
    if not any(rates):
        return _expect("expect_column_values_to_not_be_null", "critical", f"Never missing in {len(rates)} partitions.", column=column)  # fmt: skip
    allowed = min(1.0, _around(rates)[1])
    mostly = math.floor((1 - allowed) * 1000) / 1000
    if mostly <= 0:
        return None  # it has been as empty as can be
    why = f"Missing in {min(rates):.1%} to {max(rates):.1%} of a partition's rows so far."
    return _expect("expect_column_values_to_not_be_null", "warning", why, column=column, mostly=mostly)


def _range(column: str, filled: Sequence[ColumnFigures], severity: str) -> Expectation:
    least, most = [_known(f.least) for f in filled], [_known(f.most) for f in filled]
    low, high = _around(least)[0], _around(most)[1]
    spread = max(most) - min(least)
    low, high = min(low, min(least) - _FLAT * spread), max(high, max(most) + _FLAT * spread)
    low, high = _same_side(low, min(least)), _same_side(high, max(most))
    why = f"From {min(least):g} to {max(most):g} so far; partitions begin at {min(least):g} to {max(least):g} and end at {min(most):g} to {max(most):g}. Another unit, or a sentinel such as -999, leaves the range."
    return _expect("expect_column_values_to_be_between", severity, why, column=column, min_value=_outward(low, math.floor), max_value=_outward(high, math.ceil))  # fmt: skip


def _mean(column: str, filled: Sequence[ColumnFigures]) -> Expectation:
    means = [_known(f.mean) for f in filled]
    low, high = _around(means)
    why = f"A partition's mean was {min(means):.4g} to {max(means):.4g} so far. Outside of this it is unlike almost all others."
    return _expect("expect_column_mean_to_be_between", "warning", why, column=column, min_value=_outward(low, math.floor), max_value=_outward(high, math.ceil))  # fmt: skip


def _text(column: str, filled: Sequence[ColumnFigures], severity: str) -> list[Expectation]:
    made = []
    shortest, longest = min(f.shortest or 0 for f in filled), max(f.longest or 0 for f in filled)
    if shortest == longest:
        made.append(_expect("expect_column_value_lengths_to_equal", severity, f"Every value has had {longest} characters.", column=column, value=longest))  # fmt: skip
    if any(f.categories is None for f in filled):
        return made
    seen: set[str] = set()
    newest = 0
    for i, f in enumerate(filled):
        if new := set(f.categories or ()) - seen:
            seen, newest = seen | new, i
    if len(seen) > _CATEGORIES:
        return made
    settled = newest < _SETTLED * len(filled)
    why = f"{len(seen)} values so far, the newest first seen in partition {newest + 1} of {len(filled)}."
    why += "" if settled else " New ones still come, so one more only warns."
    made.append(_expect("expect_column_values_to_be_in_set", severity if settled else "warning", why, column=column, value_set=sorted(seen)))  # fmt: skip
    return made


def _moves(filled: Sequence[ColumnFigures]) -> bool:
    """Say whether a column goes one way with time, as ids and numbers of days and months do: then its past bounds nothing."""
    means = [_known(f.mean) for f in filled]
    steps = [(b > a) - (b < a) for a, b in pairwise(means)]
    mostly = len(steps) >= MIN_PARTITIONS - 1 and abs(sum(steps)) >= _ONE_WAY * len(steps)
    return mostly or (any(steps) and len({step for step in steps if step}) == 1)  # one way, if only now and then


def _around(figures: Sequence[float], *, floor: bool = False) -> tuple[float, float]:
    """Return bounds around what partitions have been: each end moved out; ``floor``: a low end halves at most."""
    middle, low, high = median(figures), min(figures), max(figures)
    room_low, room_high = _ROOM * (middle - low), _ROOM * (high - middle)
    least = _FLAT * abs(middle)
    low_end, high_end = low - max(room_low, least), high + max(room_high, least)
    if low >= 0:
        low_end = max(low_end, low / 2 if floor else 0.0)
    if high <= 0:
        high_end = min(high_end, 0.0)
    return low_end, high_end


def _same_side(bound: float, seen: float) -> float:
    """Keep a bound from crossing zero where no value has."""
    return 0.0 if bound * seen < 0 or seen == 0 else bound


def _outward(bound: float, rounded: Callable[[float], int]) -> float | int:
    """Round a bound to a few digits, away from what it bounds."""
    if bound == 0 or not math.isfinite(bound):
        return 0 if bound == 0 else bound
    digits = _DIGITS - 1 - math.floor(math.log10(abs(bound)))
    made = rounded(bound * 10.0**digits) / 10.0**digits
    return int(made) if made == int(made) and abs(made) < 2**53 else made


def _known(figure: float | None) -> float:
    assert figure is not None
    return figure
