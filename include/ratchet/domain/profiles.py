"""Profiles: what a model was trained on, as counts by day and bin. They add up over days, and hold no row.

The bins are made of the days that the model was grown on and stay as they are: whatever comes later is counted in the same.
"""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Ints = np.ndarray[Any, np.dtype[np.int64]]

LABEL, PREDICTION, CONFIDENCE = "label", "prediction", "confidence"
_FEATURE = "feature "
BINS = 10
CATEGORIES = 20  # have a bin each, the most frequent ones; the others share one
_FENCE = 0.5  # of the range
RARE = 20  # rows; of a text that training has met less often no profile tells


def feature(name: str) -> str:
    """Return how a profile names a feature; neither the label nor the predictions are named so."""
    return _FEATURE + name


class Bins(Record):
    """How the values of one subject are told apart; the last bin holds what is missing."""

    kind: Literal["number", "category"]
    edges: tuple[float, ...] = ()  # of numbers: a bin below the first, one from each edge on
    values: tuple[str, ...] = ()  # of a category: a bin each, and one for all others
    fenced: bool = False  # whether the outermost bins of numbers are for what lies far beyond all of training

    @property
    def size(self) -> int:
        """How many bins there are."""
        return (len(self.edges) if self.kind == "number" else len(self.values)) + 2

    @property
    def strange(self) -> tuple[int, ...]:
        """Say of each bin: 0, its values are such as training had; 1, they lie beyond or are new; 2, they are missing."""
        beyond = {self.size - 2} if self.kind == "category" else {0, self.size - 2} if self.fenced else set()
        return tuple(2 if i == self.size - 1 else int(i in beyond) for i in range(self.size))

    @property
    def labels(self) -> tuple[str, ...]:
        """Name each bin, for people."""
        if self.kind == "category":
            return (*(v or "(empty)" for v in self.values), "any other", "missing")
        shown = [f"{edge:.4g}" for edge in self.edges]
        if not shown:
            return ("any", "missing")
        between = [
            f"{a:.4g}" if b <= np.nextafter(a, np.inf) else f"{a:.4g} to {b:.4g}" for a, b in pairwise(self.edges)
        ]
        return (f"below {shown[0]}", *between, f"{shown[-1]} or more", "missing")


def number_bins(values: Floats, *, fenced: bool = False) -> Bins:
    """Return the deciles of some numbers, or the numbers themselves where these are few.

    With ``fenced``, what lies beyond all of them by half their range has bins of its own: a number in another unit is told
    from a cold day. (What lies just beyond is no news. A record cannot stand among the days that the bins are made of, and every
    season breaks some.)
    """
    there = values[~np.isnan(values)]
    met = np.unique(there)
    if len(met) <= BINS:
        edges = np.unique(np.concatenate([met, np.nextafter(met, np.inf)]))
    else:
        deciles = np.quantile(there, np.linspace(0, 1, BINS + 1)[1:-1])
        apart = _FENCE * (met[-1] - met[0])
        fence = [met[0] - apart, met[-1] + apart] if fenced and np.isfinite(apart) else []
        edges = np.unique(np.concatenate([deciles, fence]))
    return Bins(kind="number", edges=tuple(edges.tolist()), fenced=fenced and len(met) > BINS)


def number_codes(bins: Bins, values: Floats) -> Ints:
    """Return the bin of each number."""
    codes = np.searchsorted(np.array(bins.edges), values, side="right")
    codes[np.isnan(values)] = bins.size - 1
    return codes.astype(np.int64, copy=False)


Counts = dict[str, tuple[int, ...]]  # by subject: rows in each bin


class Profile(Record):
    """What one model was trained on, was tried on, and predicted where it had not looked."""

    first: date  # of its training
    seen_through: date  # the last day of its training
    tried_from: date  # the first day that no tree was grown on: from here on its predictions are counted
    last: date  # the newest day that it could look at
    bins: dict[str, Bins]  # by subject
    days: dict[date, Counts]  # predictions of earlier days are those of the champions of then

    def pooled(self, subject: str, first: date, last: date) -> Ints:
        """Return the counts of some days together."""
        return pool(self.days, subject, self.bins[subject].size, first, last)


def pool(days: Mapping[date, Counts], subject: str, size: int, first: date, last: date) -> Ints:
    """Add up the counts of some days."""
    total = np.zeros(size, dtype=np.int64)
    for day, counts in days.items():
        if first <= day <= last and subject in counts:
            total += np.array(counts[subject], dtype=np.int64)
    return total
