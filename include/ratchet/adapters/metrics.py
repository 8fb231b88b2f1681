"""Metrics by scikit-learn; those that are means of row losses come from the losses that the gates compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.losses import plain_log_losses, row_losses
from ratchet.domain.rankings import lists_of, numbered

if TYPE_CHECKING:
    from ratchet.domain.measuring import Measuring
    from ratchet.tables import Floats

Metrics = dict[str, float | None]


def metrics(how: Measuring, y: Floats, predictions: Floats, lists: Any = None) -> Metrics:
    """Compute a task's metrics; None where one is undefined, because a class is missing or there is no row.

    ``calibration`` is the mean prediction over the observed rate (1 is perfect). Rows of a class that the model never met
    (label −1) count as errors. What is decided of a binary task is decided at ``how.threshold``.
    """
    if len(y) == 0:
        return {}
    match how.task:
        case "binary":
            return _binary(how, y, predictions)
        case "multiclass":
            return _multiclass(how, y, predictions)
        case "regression":
            return _regression(y, predictions)
        case "quantile":
            return _quantile(how, y, predictions)
        case "ranking":
            return _ranking(how, y, predictions, lists)


def _binary(how: Measuring, y: Floats, p: Floats) -> Metrics:
    from sklearn import metrics as sk

    both = 0 < y.sum() < len(y)
    chosen = (p >= how.threshold).astype(float)
    alerts, events = chosen.sum(), y.sum()
    decided, (precision, recall, f1) = _decisions(y, chosen, np.array([0.0, 1.0]))
    return {
        "auc": float(sk.roc_auc_score(y, p)) if both else None,
        "pr_auc": float(sk.average_precision_score(y, p)) if both else None,
        "calibration": float(p.mean() / y.mean()) if events else None,
        **_probabilities(y, p),
        **decided,
        "precision": float(precision[-1]) if alerts else None,
        "recall": float(recall[-1]) if events else None,
        "f1": float(f1[-1]) if events else None,
        "alert_rate": float(chosen.mean()),
    }


def _multiclass(how: Measuring, y: Floats, p: Floats) -> Metrics:
    from sklearn import metrics as sk

    known, classes = y >= 0, p.shape[1]
    if how.top_k >= classes:
        found = float(known.sum())  # whatever is known is among them
    else:
        labels = np.arange(classes)
        found = float(
            sk.top_k_accuracy_score(y[known], p[known], k=how.top_k, labels=labels, normalize=False)
            if known.any()
            else 0.0
        )
    return {**_probabilities(y, p), **_decisions(y, p.argmax(axis=1), np.unique(y))[0], "top_k": found / len(y)}


def _probabilities(y: Floats, p: Floats) -> Metrics:
    return {"log_loss": float(plain_log_losses(y, p).mean()), "brier": float(row_losses("brier", y, p).mean())}


def _decisions(y: Floats, chosen: Any, classes: Floats) -> tuple[Metrics, Any]:
    """Measure decisions over the classes that are there; return precision, recall and F1 of each of ``classes`` too.

    scikit-learn is asked once: each of its scores would count the same table anew.
    """
    from sklearn import metrics as sk

    each = sk.precision_recall_fscore_support(y, chosen, labels=classes, zero_division=0)[:3]
    there = np.isin(classes, y)
    found: Metrics = {
        "accuracy": float(sk.accuracy_score(y, chosen)),
        "balanced_accuracy": float(np.average(each[1][there])),
        "macro_f1": float(np.average(each[2][there])),
    }
    return found, each


def _regression(y: Floats, p: Floats) -> Metrics:
    from sklearn import metrics as sk

    return {
        "rmse": float(sk.root_mean_squared_error(y, p)),
        "mae": float(sk.mean_absolute_error(y, p)),
        "r2": float(sk.r2_score(y, p)) if len(y) > 1 and np.ptp(y) > 0 else None,
    }


def _quantile(how: Measuring, y: Floats, p: Floats) -> Metrics:
    """Measure each quantile; ``coverage`` and ``width`` are those of the outer two, ``mae`` that of the one nearest to the median."""
    from sklearn import metrics as sk

    below = [float((y <= p[:, i]).mean()) for i in range(len(how.quantiles))]
    found: Metrics = {
        "pinball": float(
            np.mean([sk.mean_pinball_loss(y, p[:, i], alpha=alpha) for i, alpha in enumerate(how.quantiles)])
        ),
        "mae": float(sk.mean_absolute_error(y, p[:, how.middle])),
        "quantile_error": float(max(abs(b - alpha) for b, alpha in zip(below, how.quantiles, strict=True))),
    }
    if len(how.quantiles) > 1:
        found["coverage"] = float(((p[:, 0] <= y) & (y <= p[:, -1])).mean())
        found["width"] = float((p[:, -1] - p[:, 0]).mean())
    return {**found, **{f"below_{alpha:g}": b for alpha, b in zip(how.quantiles, below, strict=True)}}


def _ranking(how: Measuring, y: Floats, p: Floats, lists: Any) -> Metrics:
    """Average over the lists of which one order is better than another; NDCG is scikit-learn's, for all lists at once."""
    found = lists_of(y, p, numbered(lists), how.ndcg_at)
    counted = found.counts > 0
    sides = {"ndcg": found.ndcg, "mrr": found.reciprocal_rank, "precision": found.precision}
    return {name: float(values[counted].mean()) if counted.any() else None for name, values in sides.items()}
