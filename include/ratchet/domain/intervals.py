"""Intervals of what is shown, clustered by day: rows of one day share their weather, so that days are what is counted."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.losses import row_losses
from ratchet.domain.statistics import lower_and_upper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.models import Task

    Floats = np.ndarray[Any, np.dtype[np.float64]]

Interval = tuple[float, float]
_CONFIDENCE = 0.975  # on either side
_LEAST_DAYS = 2


def metric_intervals(task: Task, days: Any, y: Floats, predictions: Floats) -> dict[str, Interval]:
    """Return 95 % intervals of the headline metrics, by leaving out one day at a time (the jackknife).

    Args:
        task: decides which metrics.
        days: numpy array of dates, one per row.
        y: labels, as ``row_losses`` takes them.
        predictions: likewise.
    """
    unique, where = np.unique(days, return_inverse=True)
    if len(unique) < _LEAST_DAYS:
        return {}

    def daily(values: Floats) -> Floats:
        return np.bincount(where, weights=values).astype(np.float64)

    rows = daily(np.ones(len(y)))
    found = {}
    if task == "regression":
        found["rmse"] = np.sqrt(_without(daily(row_losses("squared_error", y, predictions)), rows))
        found["mae"] = _without(daily(row_losses("absolute_error", y, predictions)), rows)
    else:
        found["log_loss"] = _without(daily(row_losses("log_loss", y, predictions)), rows)
        found["brier"] = _without(daily(row_losses("brier", y, predictions)), rows)
        found["accuracy"] = 1 - _without(daily(row_losses("zero_one", y, predictions)), rows)
    if task == "binary":
        found["calibration"] = _without(daily(predictions), daily(y))
        found["auc"] = np.array(
            [_auc(y, predictions), *(_auc(y[where != d], predictions[where != d]) for d in range(len(unique)))]
        )
    return {name: interval for name, values in found.items() if (interval := _jackknife(values)) is not None}


def gain_interval(differences: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of a mean of daily differences; None of a single day, or where one is no finite number."""
    if len(differences) < _LEAST_DAYS or not np.isfinite(differences).all():
        return None
    _, low, high = lower_and_upper(differences, _CONFIDENCE)
    return low, high


def _without(sums: Floats, weights: Floats) -> Floats:
    """Return a ratio of sums over all days, and then with each day left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios: Floats = np.append(sums.sum(), sums.sum() - sums) / np.append(weights.sum(), weights.sum() - weights)
    return ratios


def _jackknife(values: Floats) -> Interval | None:
    """Return the interval around the first value, given those with one day left out."""
    from scipy.special import stdtrit

    whole, without = float(values[0]), values[1:]
    if not np.isfinite(values).all():
        return None
    days = len(without)
    spread = sqrt((days - 1) / days * float(((without - without.mean()) ** 2).sum()))
    reach = float(stdtrit(days - 1, _CONFIDENCE)) * spread
    return whole - reach, whole + reach


def _auc(y: Floats, predictions: Floats) -> float:
    """Return the share of pairs of a positive and a negative that are in the right order; ties count half."""
    positives, negatives = predictions[y == 1], np.sort(predictions[y == 0])
    if not len(positives) or not len(negatives):
        return float("nan")
    below, not_above = (np.searchsorted(negatives, positives, side=side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(negatives))
