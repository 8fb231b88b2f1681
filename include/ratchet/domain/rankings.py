"""How good an order is: what is told of a list of rows by their relevances and the scores that order them.

Rows of equal scores stand in no order. NDCG and precision are then those that all their orders have on average (McSherry &
Najork, ECIR 2008; scikit-learn's ``ndcg_score`` does the same), and the reciprocal rank is that of the worst (as in
scikit-learn's ``label_ranking_average_precision_score``): no model gains by giving many rows one score, nor by how rows lie
in a file. A constant score therefore has the NDCG of a random order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    Floats = np.ndarray[Any, np.dtype[np.float64]]


class Lists(NamedTuple):
    """What is told of each list; the position in these arrays is the list's number."""

    rows: Floats  # how many it has
    counts: Floats  # 1, or 0 of a list all of whose rows are equally relevant: no order of it is better than another
    ndcg: Floats  # NDCG of its first k rows, gains being the relevances themselves; 1 where no order is better than another
    reciprocal_rank: Floats  # 1 over the place of the first row of relevance above 0; 0 where there is none
    precision: Floats  # share of the first k rows whose relevance is above 0


def lists_of(y: Floats, scores: Floats, lists: Any, k: int) -> Lists:
    """Measure each list; NaN where a score of it is no number.

    Args:
        y: relevances, 0 or more.
        scores: the highest stands first.
        lists: each row's list, as a number from 0.
        k: how far down a list is looked at.
    """
    number = int(lists.max()) + 1 if len(lists) else 0

    def of_list(values: Floats) -> Floats:
        return np.bincount(lists, weights=values, minlength=number).astype(np.float64)

    rows = of_list(np.ones(len(y)))
    order = np.lexsort((-scores, lists))
    of, relevance, score = lists[order], y[order], scores[order]
    places = _places(of)
    weights = np.where(places < k, 1 / np.log2(places + 2), 0.0)
    new = np.r_[True, (of[1:] != of[:-1]) | (score[1:] != score[:-1])] if len(of) else np.zeros(0, bool)
    tie = np.cumsum(new) - 1
    sizes = np.bincount(tie)

    def shared(values: Floats) -> Floats:
        """Give each row the mean of those that it ties with."""
        mean: Floats = (np.bincount(tie, weights=values) / sizes)[tie]
        return mean

    ideal = y[np.lexsort((-y, lists))]  # places are the same: a list's rows stand together in either order
    best, gained = (np.bincount(of, weights=gain * weights, minlength=number) for gain in (ideal, shared(relevance)))
    relevant = (relevance > 0).astype(np.float64)
    begins, hits = np.flatnonzero(new), np.bincount(tie, weights=relevant)  # of each tie
    ranks = places[begins] + sizes - hits + 1  # of its first relevant row, where the others come before it
    first = np.full(number, np.inf)
    np.minimum.at(first, of[begins][hits > 0], ranks[hits > 0])
    looked_at = np.minimum(rows, k)
    high, low = np.full(number, -np.inf), np.full(number, np.inf)
    np.maximum.at(high, lists, y)
    np.minimum.at(low, lists, y)
    known = np.where(of_list((~np.isfinite(scores)).astype(np.float64)) > 0, np.nan, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ndcg = np.where(high > low, gained / best, 1.0)
        precision = np.bincount(of, weights=shared(relevant) * (places < k), minlength=number) / looked_at
    return Lists(
        rows=rows,
        counts=(high > low).astype(np.float64),
        ndcg=ndcg * known,
        reciprocal_rank=known / first,
        precision=precision * known,
    )


def numbered(names: Any) -> Any:
    """Return the number of each row's list, from 0, given names of any kind."""
    return np.unique(names, return_inverse=True)[1]


def _places(of: Any) -> Any:
    """Return how many rows of its list stand before each row; rows of a list stand together."""
    starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]]) if len(of) else np.zeros(0, int)
    return np.arange(len(of)) - np.repeat(starts, np.diff(np.append(starts, len(of))))
