"""Metrics of many reweighings of the same days at once: each is a function of sums that every day has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.losses import plain_log_losses, row_losses
from ratchet.domain.rankings import lists_of, numbered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratchet.domain.measuring import Measuring

    Floats = np.ndarray[Any, np.dtype[np.float64]]

_BINS, _FEWEST, _ROWS = 512, 64, 16  # and rows in each: with fewer, their own noise is larger than what bins blur


class DaySums:
    """What each day adds to the metrics of one model on some rows.

    Args:
        how: the task, and where it is looked at.
        days: number of each row's day, from 0.
        count: how many days there are.
        y: labels, as ``row_losses`` takes them.
        predictions: likewise.
        lists: of a ranking, in which list each row stands.
        bins: into how many the predictions of a binary task are sorted at most, for what depends on their order; by default so many
            that areas differ by less than their own noise.
    """

    def __init__(  # noqa: PLR0913  the same five that every metric depends on, and the days
        self, how: Measuring, days: Any, count: int, y: Floats, predictions: Floats, lists: Any = None, *, bins: int = 0
    ) -> None:
        self._how, self._days, self._count, self._bins = (
            how,
            days,
            count,
            bins or min(_BINS, max(_FEWEST, len(y) // _ROWS)),
        )
        make = {
            "binary": self._of_binary,
            "multiclass": self._of_multiclass,
            "regression": self._of_regression,
            "quantile": self._of_quantile,
            "ranking": self._of_ranking,
        }[how.task]
        self._sums: dict[str, Floats] = {"rows": self._daily(np.ones(len(y)))}
        make(y, predictions, lists)

    def metrics(self, weights: Floats) -> Mapping[str, Floats]:
        """Return each metric under each reweighing; not a finite number where it is undefined.

        Args:
            weights: of shape (reweighings, days): how often each day counts.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            given = {name: np.einsum("rd,d...->r...", weights, sums) for name, sums in self._sums.items()}
            rows = given["rows"]
            means = {name: given[name] / rows for name in _MEANS if name in given}
            match self._how.task:
                case "binary":
                    return {**means, **_binary(given)}
                case "multiclass":
                    return {**means, **_decisions(given["right"], given["labels"], given["chosen"])}
                case "regression":
                    spread = given["square"] - given["label"] ** 2 / rows
                    error = given["squared_error"]
                    return {
                        **means,
                        "rmse": np.sqrt(error / rows),
                        "r2": np.where(spread > 0, 1 - error / spread, np.nan),
                    }
                case "quantile":
                    below = given["below"] / rows[:, None]
                    off = np.abs(below - np.array(self._how.quantiles)).max(axis=1)
                    each = {f"below_{q:g}": below[:, i] for i, q in enumerate(self._how.quantiles)}
                    return {**means, "quantile_error": off, **each}
                case "ranking":
                    return {name: given[name] / given["lists"] for name in ("ndcg", "mrr", "precision")}

    def _daily(self, values: Any) -> Floats:
        """Add rows up by day; one number a row, or several."""
        columns = [
            np.bincount(self._days, column, self._count).astype(np.float64) for column in np.atleast_2d(values.T)
        ]
        return columns[0] if values.ndim == 1 else np.column_stack(columns)

    def _cells(self, codes: Any, number: int, rows: Any = slice(None)) -> Floats:
        """Count rows by day and code."""
        cells = np.bincount(self._days[rows] * number + codes[rows], minlength=self._count * number)
        return cells.reshape(self._count, number).astype(np.float64)

    def _of_binary(self, y: Floats, p: Floats, _: Any) -> None:
        chosen, event = p >= self._how.threshold, y == 1
        codes, number = _binned(p, self._bins)
        self._sums |= {
            "log_loss": self._daily(plain_log_losses(y, p)),
            "brier": self._daily(row_losses("brier", y, p)),
            "predicted": self._daily(p),
            "alert_rate": self._daily(chosen.astype(np.float64)),
            "hit": self._daily((chosen & event).astype(np.float64)),
            "events": self._cells(codes, number, event),
            "others": self._cells(codes, number, ~event),
        }

    def _of_multiclass(self, y: Floats, p: Floats, _: Any) -> None:
        classes, known = p.shape[1], y >= 0
        truth, chosen = np.where(known, y, classes).astype(np.int64), p.argmax(axis=1)
        of_truth = p[np.arange(len(y)), np.minimum(truth, classes - 1)]
        ahead = (p > of_truth[:, None]).sum(axis=1) + (
            (p == of_truth[:, None]) & (np.arange(classes) > truth[:, None])
        ).sum(axis=1)  # of equals the last stands first, as scikit-learn has it
        right = chosen == truth
        self._sums |= {
            "log_loss": self._daily(plain_log_losses(y, p)),
            "brier": self._daily(row_losses("brier", y, p)),
            "top_k": self._daily((known & (ahead < self._how.top_k)).astype(np.float64)),
            "right": self._cells(truth, classes + 1, right),
            "labels": self._cells(truth, classes + 1),
            "chosen": self._cells(chosen, classes + 1),
        }

    def _of_regression(self, y: Floats, p: Floats, _: Any) -> None:
        centred = y - y.mean() if len(y) else y
        self._sums |= {
            "mae": self._daily(np.abs(y - p)),
            "squared_error": self._daily((y - p) ** 2),
            "label": self._daily(centred),
            "square": self._daily(centred**2),
        }

    def _of_quantile(self, y: Floats, p: Floats, _: Any) -> None:
        quantiles = self._how.quantiles
        self._sums |= {
            "pinball": self._daily(row_losses("pinball", y, p, self._how)),
            "mae": self._daily(np.abs(y - p[:, self._how.middle])),
            "below": self._daily((y[:, None] <= p).astype(np.float64)),
        }
        if len(quantiles) > 1:
            self._sums["coverage"] = self._daily(((p[:, 0] <= y) & (y <= p[:, -1])).astype(np.float64))
            self._sums["width"] = self._daily(p[:, -1] - p[:, 0])

    def _of_ranking(self, y: Floats, p: Floats, lists: Any) -> None:
        codes = numbered(lists)
        found = lists_of(y, p, codes, self._how.ndcg_at)
        share = found.counts / found.rows  # a list counts once, on the days of its rows
        for name, values in (
            ("lists", np.ones(len(share))),
            ("ndcg", found.ndcg),
            ("mrr", found.reciprocal_rank),
            ("precision", found.precision),
        ):
            self._sums[name] = self._daily(np.where(found.counts > 0, values * share, 0.0)[codes])


_MEANS = ("log_loss", "brier", "alert_rate", "top_k", "mae", "pinball", "coverage", "width")


def _binned(p: Floats, most: int) -> tuple[Any, int]:
    """Return each prediction's bin, in order of the predictions; exact where there are few of them."""
    values, codes, counts = np.unique(p, return_inverse=True, return_counts=True)
    if len(values) <= most:
        return codes, len(values)
    middle = (np.cumsum(counts) - counts / 2) / len(p)
    return np.minimum((middle * most).astype(np.int64), most - 1)[codes], most


def _binary(given: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return what depends on counts by label and prediction; bins ascend."""
    events, others = given["events"], given["others"]
    rows, positive = given["rows"], events.sum(axis=1)
    negative = rows - positive
    below = np.cumsum(others, axis=1) - others
    area = (events * (below + others / 2)).sum(axis=1) / (positive * negative)
    hits, alarms = (np.cumsum(side[:, ::-1], axis=1) for side in (events, others))
    precision = np.where(hits > 0, hits / (hits + alarms), 0.0)
    chosen, hit = given["alert_rate"], given["hit"]
    by_class = [
        np.column_stack(pair)
        for pair in ((rows - positive - chosen + hit, hit), (negative, positive), (rows - chosen, chosen))
    ]
    decided = _decisions(*by_class)
    return {
        "auc": area,
        "pr_auc": np.where(negative > 0, (events[:, ::-1] * precision).sum(axis=1) / positive, np.nan),
        "calibration": given["predicted"] / positive,
        **decided,
        "precision": hit / chosen,
        "recall": hit / positive,
        "f1": np.where(positive > 0, 2 * hit / (chosen + positive), np.nan),
    }


def _decisions(right: Floats, labels: Floats, chosen: Floats) -> dict[str, Floats]:
    """Return what depends on counts by class: of those that are right, those that are there, and those that are chosen."""
    there = labels > 0
    count = there.sum(axis=1)
    recall, f1 = np.where(there, right / labels, 0.0), np.where(there, 2 * right / (labels + chosen), 0.0)
    return {
        "accuracy": right.sum(axis=1) / labels.sum(axis=1),
        "balanced_accuracy": recall.sum(axis=1) / count,
        "macro_f1": f1.sum(axis=1) / count,
    }
