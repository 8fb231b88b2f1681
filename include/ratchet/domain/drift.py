"""How far values have moved: the population stability index, an effect size that does not grow with the number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Floats = np.ndarray[Any, np.dtype[np.float64]]

_BINS = 10
_ADDED = 0.5  # to each bin's count, so that an empty one is a large shift and not an infinite one


def stability_index(before: Floats, after: Floats) -> float | None:
    """Return the index of two samples; None where one is empty.

    The bins are the deciles of ``before``, or its values where these are few; NaN is a bin of its own, and whatever lies
    beyond has one too.
    """
    if not len(before) or not len(after):
        return None
    met = np.unique(before[~np.isnan(before)])
    if len(met) <= _BINS:
        edges = np.unique(np.concatenate([met, np.nextafter(met, np.inf)]))
    else:
        edges = np.unique(np.nanquantile(before, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return index_of_counts(_counts(edges, before), _counts(edges, after))


def index_of_counts(before: Floats, after: Floats) -> float:
    """Return the index of two samples that are counted in the same bins."""
    used = (before > 0) | (after > 0)
    p, q = ((counts[used] + _ADDED) / (counts[used].sum() + _ADDED * used.sum()) for counts in (before, after))
    return float(((q - p) * np.log(q / p)).sum())


def _counts(edges: Floats, values: Floats) -> Floats:
    """Count values between edges; the last bin holds NaN."""
    there = ~np.isnan(values)
    counts = np.bincount(np.searchsorted(edges, values[there], side="right"), minlength=len(edges) + 1)
    return np.append(counts, len(values) - there.sum()).astype(np.float64)
