"""Losses per row, of which daily means are taken. Smaller is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ratchet.domain.gates import Loss

    Floats = np.ndarray[Any, np.dtype[np.float64]]

CLIP = 0.002  # probabilities are clipped to [.002, .998], so that one confident error does not decide a day (GATES)


def row_losses(loss: Loss, y: Floats, predictions: Floats) -> Floats:
    """Return the loss of each row.

    Args:
        loss: which.
        y: labels of shape (n,): 0/1, class number (−1: a class that the model never met), or value.
        predictions: of shape (n,) or (n, classes).
    """
    losses: Floats
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


def by_day(days: Any, losses: Floats) -> dict[str, tuple[int, float]]:
    """Return rows and mean loss by ISO date; ``days`` is a numpy array of dates, one per row."""
    unique, where = np.unique(days, return_inverse=True)
    rows = np.bincount(where)
    sums = np.bincount(where, weights=losses)
    return {str(d): (int(n), float(total / n)) for d, n, total in zip(unique, rows, sums, strict=True)}
