"""Losses per row, of which daily means are taken. Smaller is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.rankings import lists_of

if TYPE_CHECKING:
    from ratchet.domain.gates import Loss
    from ratchet.domain.measuring import Measuring

    Floats = np.ndarray[Any, np.dtype[np.float64]]

CLIP = 0.002  # probabilities are clipped to [.002, .998], so that one confident error does not decide a day (GATES)
_EPS = float(np.finfo(np.float64).eps)  # to which scikit-learn clips them


def row_losses(
    loss: Loss, y: Floats, predictions: Floats, measuring: Measuring | None = None, lists: Any = None
) -> Floats:
    """Return the loss of each row.

    Args:
        loss: which.
        y: labels of shape (n,): 0/1, class number (−1: a class that the model never met), value, or relevance.
        predictions: of shape (n,), (n, classes) or (n, quantiles).
        measuring: needed for ``pinball``, which takes the mean over its quantiles, and for ``ndcg_loss``.
        lists: of a ranking, the number of each row's list; a row has the loss of its list, see ``row_weights``.
    """
    losses: Floats
    if loss == "pinball":
        assert measuring, "quantiles are part of the loss"
        over, quantiles = y[:, None] - predictions, np.array(measuring.quantiles)
        losses = np.maximum(over * quantiles, over * (quantiles - 1)).mean(axis=1)
        return losses
    if loss == "ndcg_loss":
        assert measuring, "how far down is looked is part of the loss"
        losses = 1 - lists_of(y, predictions, lists, measuring.ndcg_at).ndcg[lists]
        return losses
    if loss in {"squared_error", "absolute_error"}:
        losses = np.abs(y - predictions)
        return losses if loss == "absolute_error" else losses * losses
    p = np.column_stack([1 - predictions, predictions]) if predictions.ndim == 1 else predictions
    known = y >= 0
    truth = np.zeros_like(p)
    truth[np.flatnonzero(known), y[known].astype(np.int64)] = 1.0
    if loss == "log_loss":
        of_truth = (p * truth).sum(axis=1)
        losses = -np.log(np.clip(of_truth, CLIP, 1 - CLIP))
    elif loss == "brier":
        losses = ((p - truth) ** 2).sum(axis=1) / (2.0 if predictions.ndim == 1 else 1.0)
        losses = losses + ~known  # an unknown class was given 0: who never met it must not gain by that
    else:
        losses = (p.argmax(axis=1) != y).astype(np.float64)
    return losses


def plain_log_losses(y: Floats, predictions: Floats) -> Floats:
    """Return the log loss of each row as scikit-learn has it, for the metric; gates compare the clipped one of ``row_losses``.

    A class that the model never met counts as one of probability ``CLIP``: of none the loss would be infinite.
    """
    p = np.column_stack([1 - predictions, predictions]) if predictions.ndim == 1 else predictions
    known = y >= 0
    of_truth = np.full(len(y), CLIP)
    of_truth[known] = p[np.flatnonzero(known), y[known].astype(np.int64)]
    losses: Floats = -np.log(np.clip(of_truth, _EPS, 1 - _EPS))
    return losses


def row_weights(y: Floats, lists: Any) -> Floats:
    """Return how much each row counts in the mean of a loss: the same, but of a ranking each list, however long, counts once.

    A list all of whose rows are equally relevant does not count: no order of it is better than another.
    """
    if lists is None or not len(y):
        return np.ones(len(y))
    found = lists_of(y, np.zeros(len(y)), lists, 1)
    weights: Floats = (found.counts / found.rows)[lists]
    return weights


def by_day(days: Any, losses: Floats, weights: Floats | None = None) -> dict[str, tuple[int, float]]:
    """Return rows and mean loss by ISO date; a day on which no row counts is left out.

    Args:
        days: a numpy array of dates, one per row.
        losses: of each row.
        weights: how much each row counts; by default all the same.
    """
    unique, where = np.unique(days, return_inverse=True)
    rows = np.bincount(where)
    shares = rows if weights is None else np.bincount(where, weights=weights)
    sums = np.bincount(where, weights=losses if weights is None else np.where(weights > 0, losses * weights, 0.0))
    return {
        str(d): (int(n), float(total / share))
        for d, n, share, total in zip(unique, rows, shares, sums, strict=True)
        if share > 0
    }


def daily_losses(
    loss: Loss, days: Any, y: Floats, predictions: Floats, measuring: Measuring | None = None, lists: Any = None
) -> dict[str, tuple[int, float]]:
    """Return rows and mean loss by ISO date, as ``row_losses`` and ``by_day`` say."""
    if lists is not None:
        _, lists = np.unique(lists, return_inverse=True)  # of some of the rows only
    losses = row_losses(loss, y, predictions, measuring, lists)
    return by_day(days, losses, None if lists is None else row_weights(y, lists))


def mean_loss(
    loss: Loss, y: Floats, predictions: Floats, measuring: Measuring | None = None, lists: Any = None
) -> float:
    """Return the mean loss of rows; NaN where none counts."""
    if lists is not None:
        _, lists = np.unique(lists, return_inverse=True)
    weights = row_weights(y, lists)
    losses = row_losses(loss, y, predictions, measuring, lists)
    if not weights.sum():
        return float("nan")
    return float(losses.mean() if lists is None else np.average(losses[weights > 0], weights=weights[weights > 0]))
