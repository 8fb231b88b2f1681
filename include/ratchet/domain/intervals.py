"""Intervals of what is shown, clustered by day: rows of one day share their weather, so that days are what is counted.

A metric of one model has the jackknife's interval over days, with Student's t. What two models differ by, on the same rows, has the
interval of a bootstrap that draws whole days, the same ones for both. Its percentiles are moved outwards as far as Student's t
and the n / (n − 1) of a variance ask for (Hesterberg, What Teachers Should Know About the Bootstrap, 2015): of a week of days
plain percentiles and BCa, at 95 %, hold the truth only 85 to 90 times of 100. ``benchmarks/intervals.py`` measures both.
"""

from __future__ import annotations

import functools
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ratchet.domain.case import Difference
from ratchet.domain.day_sums import DaySums
from ratchet.domain.statistics import lower_and_upper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratchet.domain.measuring import Measuring

    Floats = np.ndarray[Any, np.dtype[np.float64]]

Interval = tuple[float, float]
_CONFIDENCE = 0.975  # on either side
_LEAST_DAYS = 2
_FEW_DAYS = 5  # fewer make so few different draws that their percentiles say nothing; the jackknife takes their place
_DRAWS = 1999
_DIGITS = 6  # that are kept: what comes after differs with the processor
_DEFINED = 0.95  # of the draws must have the metric
_NOT_NEGATIVE = {"log_loss", "brier", "calibration", "rmse", "mae", "pinball", "width"}
_ANY = {"r2"}


def metric_intervals(
    how: Measuring, days: Any, y: Floats, predictions: Floats, lists: Any = None, *, bins: int = 0
) -> dict[str, Interval]:
    """Return 95 % intervals of a model's metrics, by leaving out one day at a time (the jackknife).

    Args:
        how: decides which metrics.
        days: numpy array of dates, one per row.
        y: labels, as ``row_losses`` takes them.
        predictions: likewise.
        lists: of a ranking, in which list each row stands.
        bins: as ``DaySums`` takes them.
    """
    unique, where = np.unique(days, return_inverse=True)
    if len(unique) < _LEAST_DAYS:
        return {}
    found = DaySums(how, where, len(unique), y, predictions, lists, bins=bins).metrics(left_out(len(unique)))
    intervals = {name: _jackknife(values) for name, values in found.items()}
    return {name: _possible(name, interval) for name, interval in intervals.items() if interval is not None}


class Told(NamedTuple):
    """What a model says of rows."""

    y: Floats  # labels as this model counts them
    predictions: Floats


def differences(
    how: Measuring, days: Any, champion: Told, challenger: Told, lists: Any = None, *, bins: int = 0
) -> dict[str, Difference]:
    """Return what two models' metrics on the same rows differ by, with 95 % intervals.

    Args:
        how: decides which metrics.
        days: numpy array of dates, one per row.
        champion: on these rows.
        challenger: likewise.
        lists: of a ranking, in which list each row stands.
        bins: as ``DaySums`` takes them.
    """
    unique, where = np.unique(days, return_inverse=True)
    count = len(unique)
    if not count:
        return {}
    weights = left_out(count) if count < _FEW_DAYS else np.vstack([left_out(count), draws(count)])
    theirs, ours = (
        DaySums(how, where, count, side.y, side.predictions, lists, bins=bins).metrics(weights)
        for side in (champion, challenger)
    )
    return {
        name: difference(theirs[name], values, rows=len(days), days=count)
        for name, values in ours.items()
        if name in theirs
    }


def difference(champion: Floats, challenger: Floats, *, rows: int, days: int) -> Difference:
    """Compare one metric of two models.

    Args:
        champion: of all days, then with each day left out, then, of enough days, of each of their ``draws``; not a finite number where
            undefined.
        challenger: likewise.
        rows: how many both have scored.
        days: on how many days.
    """
    with np.errstate(invalid="ignore"):  # neither is defined
        gained = challenger - champion
    interval = None
    if days >= _LEAST_DAYS and isfinite(gained[0]):
        few = days < _FEW_DAYS or len(gained) == 1 + days
        interval = _jackknife(gained[: 1 + days]) if few else _expanded(gained[1 + days :], days)
    low, high = interval or (None, None)
    return Difference(
        champion=_number(champion[0]),
        challenger=_number(challenger[0]),
        difference=_number(gained[0]),
        low=low,
        high=high,
        rows=rows,
        days=days,
    )


@functools.lru_cache(maxsize=8)
def draws(days: int) -> Floats:
    """Return how often each day is drawn, in each of many draws of as many days; always the same."""
    random = np.random.Generator(np.random.PCG64(days))
    drawn = random.integers(0, days, (_DRAWS, days))
    counts = np.bincount((drawn + days * np.arange(_DRAWS)[:, None]).ravel(), minlength=_DRAWS * days)
    made: Floats = counts.reshape(_DRAWS, days).astype(np.float64)
    made.flags.writeable = False  # whoever asks next gets the same
    return made


def gain_interval(differences: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of a mean of daily differences; None of a single day, or where one is no finite number."""
    if len(differences) < _LEAST_DAYS or not np.isfinite(differences).all():
        return None
    _, low, high = lower_and_upper(differences, _CONFIDENCE)
    return low, high


def jackknife_intervals(values: Mapping[str, Floats]) -> dict[str, Interval]:
    """Return the interval of each metric, given it of all days and then with each day left out; none where that is undefined."""
    return {name: interval for name, found in values.items() if (interval := _jackknife(found)) is not None}


def left_out(days: int) -> Floats:
    """Weigh all days, and then all but one at a time."""
    return np.vstack([np.ones((1, days)), 1 - np.eye(days)])


def _jackknife(values: Floats) -> Interval | None:
    """Return the interval around the first value, given those with one day left out."""
    from scipy.special import stdtrit

    whole, without = float(values[0]), values[1:]
    if len(without) < _LEAST_DAYS or not np.isfinite(values).all():
        return None
    days = len(without)
    spread = sqrt((days - 1) / days * float(((without - without.mean()) ** 2).sum()))
    reach = float(stdtrit(days - 1, _CONFIDENCE)) * spread
    return _rounded(whole - reach, whole + reach)


def _expanded(drawn: Floats, days: int) -> Interval | None:
    """Return percentiles of the draws, further out the fewer days there are."""
    from scipy.special import ndtr, stdtrit

    known = drawn[np.isfinite(drawn)]
    if len(known) < _DEFINED * len(drawn):
        return None
    tail = float(ndtr(-stdtrit(days - 1, _CONFIDENCE) * sqrt(days / (days - 1))))
    return _rounded(*(float(np.quantile(known, share)) for share in (tail, 1 - tail)))


def _possible(name: str, interval: Interval) -> Interval:
    """Cut off what a metric cannot be."""
    if name in _ANY:
        return interval
    top = np.inf if name in _NOT_NEGATIVE else 1.0
    low, high = (float(np.clip(side, 0.0, top)) for side in interval)
    return low, high


def _rounded(low: float, high: float) -> Interval:
    return float(f"{low:.{_DIGITS}g}"), float(f"{high:.{_DIGITS}g}")


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None
