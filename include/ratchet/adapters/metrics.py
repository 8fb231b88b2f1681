"""Metrics by scikit-learn; those that are means of row losses come from the losses that the gates compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ratchet.domain.losses import row_losses

if TYPE_CHECKING:
    from ratchet.domain.models import Task
    from ratchet.ports import Floats


def metrics(task: Task, y: Floats, predictions: Floats) -> dict[str, float | None]:
    """Compute a task's metrics; None where one is undefined, because a class is missing or there is no row.

    ``calibration`` is the mean prediction over the observed rate (1 is perfect). Rows of a class that the model never met
    (label −1) count as errors.
    """
    from sklearn import metrics as sk

    if len(y) == 0:
        return {}
    if task == "regression":
        return {
            "rmse": float(np.sqrt(np.mean((y - predictions) ** 2))),
            "mae": float(np.mean(np.abs(y - predictions))),
            "r2": float(sk.r2_score(y, predictions)) if len(y) > 1 and np.ptp(y) > 0 else None,
        }
    chosen = predictions.argmax(axis=1) if predictions.ndim == 2 else (predictions >= 0.5).astype(float)  # noqa: PLR2004
    found: dict[str, float | None] = {}
    if task == "binary":
        both = 0 < y.sum() < len(y)
        found["auc"] = float(sk.roc_auc_score(y, predictions)) if both else None
        found["pr_auc"] = float(sk.average_precision_score(y, predictions)) if both else None
        found["calibration"] = float(predictions.mean() / y.mean()) if y.sum() else None
    return {
        **found,
        "log_loss": float(row_losses("log_loss", y, predictions).mean()),
        "brier": float(row_losses("brier", y, predictions).mean()),
        "accuracy": float((chosen == y).mean()),
        "balanced_accuracy": float(np.mean([(chosen[y == c] == c).mean() for c in np.unique(y)])),
        "macro_f1": float(sk.f1_score(y, chosen, average="macro", labels=np.unique(y), zero_division=0)),
    }
