"""How far values have moved: effect sizes, which do not grow with the number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.profiles import number_bins, number_codes

if TYPE_CHECKING:
    from ratchet.domain.profiles import Bins

    Floats = np.ndarray[Any, np.dtype[np.float64]]

_ADDED = 0.5  # to each bin's count, so that an empty one is a large shift and not an infinite one


def stability_index(before: Floats, after: Floats) -> float | None:
    """Return the index of two samples; None where one is empty.

    The bins are the deciles of ``before``, or its values where these are few; NaN is a bin of its own, and whatever lies
    beyond has one too.
    """
    if not len(before) or not len(after):
        return None
    bins = number_bins(before)
    sides = (np.bincount(number_codes(bins, side), minlength=bins.size).astype(np.float64) for side in (before, after))
    return index_of_counts(*sides)


def index_of_counts(before: Floats, after: Floats) -> float:
    """Return the index of two samples that are counted in the same bins."""
    return float(indices(before, after))


def indices(before: Floats, after: Floats) -> Floats:
    """Return the index of each pair of samples; the last axis are their bins."""
    used = (before > 0) | (after > 0)
    p, q = (_shares(counts, used) for counts in (before, after))
    found: Floats = ((q - p) * np.log(q / p)).sum(axis=-1)
    return found


def _shares(counts: Floats, used: np.ndarray[Any, np.dtype[np.bool_]]) -> Floats:
    raised = np.where(used, counts + _ADDED, 0.0)
    total = raised.sum(axis=-1, keepdims=True)
    return np.where(used, raised / np.where(total > 0, total, 1.0), 1.0)  # bins that neither uses add nothing


def divergence(before: Floats, after: Floats) -> float:
    """Return the Jensen–Shannon divergence in bits, from 0 (the same) to 1 (nothing in common)."""
    p, q = (counts / max(counts.sum(), 1) for counts in (before, after))
    middle = (p + q) / 2

    def half(side: Floats) -> float:
        there = side > 0
        return float((side[there] * np.log2(side[there] / middle[there])).sum())

    return (half(p) + half(q)) / 2


def kolmogorov(before: Floats, after: Floats) -> float:
    """Return the largest difference of the two cumulative shares over the bins of a number, missing values left out."""
    p, q = (np.cumsum(counts[:-1]) / max(counts[:-1].sum(), 1) for counts in (before, after))
    return float(np.abs(p - q).max())


def wasserstein(bins: Bins, before: Floats, after: Floats) -> float | None:
    """Return how far the one must be moved to become the other, in units of the number; both tails count from the last edge."""
    edges = np.array(bins.edges)
    if len(edges) < 2:  # noqa: PLR2004  a distance lies between two
        return None
    p, q = (np.cumsum(counts[:-1]) / max(counts[:-1].sum(), 1) for counts in (before, after))
    return float((np.abs(p - q)[:-1][: len(edges)][1:] * np.diff(edges)).sum())
