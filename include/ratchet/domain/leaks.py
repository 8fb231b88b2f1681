"""How well one feature alone tells the label: a leak is a feature that nearly decides it.

Half of the rows learn how high the label is for each value (numbers: for each of many bins), the other half is ranked by that.
So a feature with a value of its own for every row tells nothing, whatever the type; one that says the label in disguise, by
its order, its values or its nulls, tells all. A feature that only some rows have is tried among these as well: what is filled
in once the label is known, for half of the rows, ranks the whole by no more than luck would have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.models import CLASSIFIED

if TYPE_CHECKING:
    from ratchet.domain.models import Task

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Codes = np.ndarray[Any, np.dtype[np.int64]]

_BINS = 256
_PER_BIN = 20  # rows that a bin needs to tell a mean
_LEAST = 10  # rows of a class, in the half that is ranked, below which nothing is said
_SOME, _SHARE = 200, 0.05  # rows that have a value, and their share of all, from which on they are tried apart
_PRIOR = 1.0  # rows of the overall mean that each value's mean starts with


def decides(feature: Floats, labels: Floats, task: Task, *, categories: bool) -> tuple[float | None, int]:
    """Return `skill` over all rows or, where that is more, over those that have a value; and over how many rows that is."""
    whole, there = skill(feature, labels, task, categories=categories), ~np.isnan(feature)
    some = int(there.sum())
    if max(_SOME, _SHARE * len(feature)) <= some < len(feature):
        part = skill(feature[there], labels[there], task, categories=categories)
        if part is not None and (whole is None or part > whole):
            return part, some
    return whole, len(feature)


def skill(feature: Floats, labels: Floats, task: Task, *, categories: bool) -> float | None:
    """Return how well a feature alone tells the label; None where there are too few rows to say.

    Args:
        feature: one value a row, NaN where there is none; of a category its code.
        labels: of a class its number, from 0; of a regression the value.
        task: binary gives an AUC, multiclass the mean AUC of its classes against the others, each as often as it comes; any
            other gives a share of the variance.
        categories: whether the order of the values means nothing.
    """
    codes, bins = _coded(feature) if categories else _binned(feature)
    learn = np.arange(len(labels)) * 2654435761 >> 16 & 1 == 0  # a half that no order of the rows decides
    if task not in CLASSIFIED:
        return _variance(feature, codes, bins, labels, learn, categories=categories)
    found, rows = 0.0, 0
    for number in np.unique(labels)[1 if task == "binary" else 0 :]:
        y = (labels == number).astype(np.float64)
        ranked = y[~learn]
        if min(ranked.sum(), (1 - ranked).sum()) < _LEAST:
            continue
        auc = _auc(_means(codes, bins, y, learn)[codes[~learn]], ranked)
        if task == "binary" and not categories:  # no half needs to learn an order
            ends = (-np.inf, np.inf) if np.isnan(feature).any() else (0.0,)
            orders = [_auc(np.where(np.isnan(feature), end, feature), y) for end in ends]
            auc = max(auc, *orders, *(1 - order for order in orders))
        found, rows = found + auc * ranked.sum(), rows + int(ranked.sum())
    return float(found / rows) if rows else None


def _variance(
    feature: Floats, codes: Codes, bins: int, y: Floats, learn: np.ndarray[Any, np.dtype[np.bool_]], *, categories: bool
) -> float | None:
    held = y[~learn]
    whole = float(((held - held.mean()) ** 2).sum()) if len(held) >= _LEAST else 0.0
    if whole <= 0:
        return None
    left = held - _means(codes, bins, y, learn)[codes[~learn]]
    found = max(0.0, 1 - float((left**2).sum()) / whole)
    there = ~np.isnan(feature)
    if (
        not categories and there.sum() > len(y) / 2
    ):  # of a label with a long tail no bin tells the mean, but its order does
        ranks = [_ranks(values[there]) for values in (feature, y)]
        if all(float(np.ptp(values)) > 0 for values in ranks):
            found = max(found, float(np.corrcoef(ranks[0], ranks[1])[0, 1]) ** 2)
    return found


def _coded(feature: Floats) -> tuple[Codes, int]:
    """Number the categories; the last number is that of no value."""
    there = ~np.isnan(feature)
    known, codes = np.unique(feature[there], return_inverse=True)
    coded = np.full(len(feature), len(known))
    coded[there] = codes
    return coded, len(known) + 1


def _binned(feature: Floats) -> tuple[Codes, int]:
    """Number the quantile bins of a feature, or its values where these are few; the last number is that of no value."""
    there = ~np.isnan(feature)
    values = np.unique(feature[there])
    bins = int(np.clip(there.sum() / _PER_BIN, 2, _BINS))
    if len(values) <= bins:
        edges = values[1:]
    else:
        edges = np.unique(np.quantile(feature[there], np.linspace(0, 1, bins + 1)[1:-1], method="nearest"))
    coded = np.searchsorted(edges, feature, side="right")
    coded[~there] = len(edges) + 1
    return coded, len(edges) + 2


def _means(codes: Codes, bins: int, y: Floats, learn: np.ndarray[Any, np.dtype[np.bool_]]) -> Floats:
    """Return each bin's mean label among the rows that are learnt from, drawn towards the mean of all."""
    rows = np.bincount(codes[learn], minlength=bins)
    means: Floats = (np.bincount(codes[learn], y[learn], bins) + _PRIOR * y[learn].mean()) / (rows + _PRIOR)
    return means


def _auc(scores: Floats, y: Floats) -> float:
    """Return the probability that a row of the class is ranked above one of another; ties count half."""
    positive = float(y.sum())
    return float((_ranks(scores)[y == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(y) - positive)))


def _ranks(values: Floats) -> Floats:
    """Rank from 1, ties by their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse]
    return ranks
