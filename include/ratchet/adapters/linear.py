"""The linear baseline: what a regression on the same features, without any care, would have given."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from ratchet.adapters.matrix import labels, matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from ratchet.domain.models import ModelSchema
    from ratchet.tables import Floats

_MOST_ROWS = 50_000  # to fit on, evenly over the days; a linear model learns little from more
_ROWS = 50_000  # that are scored at a time
_FURTHEST = 10.0  # standard deviations from the median; what lies beyond counts as there
_MOST_CATEGORIES = 50  # of a column get a coefficient of their own, the most frequent first


def linear_predictions(schema: ModelSchema, before: pa.Table, after: pa.Table) -> Floats:
    """Fit a logistic or ridge regression on the rows before, and score those after.

    Numbers are centred and scaled, missing ones take the median, and categories get a column each. Quantiles are the ridge
    regression's prediction plus those of its residuals: a linear quantile regression would take minutes. A ranking's
    relevances are regressed on row by row.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(
        1, user_api="blas"
    ):  # more threads round differently, and wait for each other longer than they work
        return _predictions(schema, before, after)


def _predictions(schema: ModelSchema, before: pa.Table, after: pa.Table) -> Floats:
    from sklearn.linear_model import LogisticRegression, Ridge

    before = before.take(np.linspace(0, before.num_rows - 1, min(before.num_rows, _MOST_ROWS)).astype(np.int64))
    y, x = labels(schema, before), _numbers(schema, before)
    design = _Design(schema, x)
    if schema.task not in {"binary", "multiclass"}:
        ridge = Ridge().fit(design.of(x), y)
        values = _in_parts(schema, after, lambda rows: ridge.predict(design.of(rows)))
        if schema.task != "quantile":
            return values
        beside: Floats = np.quantile(y - ridge.predict(design.of(x)), schema.quantiles)
        return values[:, None] + beside
    known = y >= 0
    found = np.zeros((after.num_rows, len(schema.classes)))
    met = np.unique(y[known]).astype(np.int64)
    if len(met) < 2:  # noqa: PLR2004  nothing to tell apart: what was always so is what is predicted
        found[:, met] = 1.0
        return found[:, 1] if schema.task == "binary" else found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a baseline that has not quite converged is still a baseline
        model = LogisticRegression(max_iter=200).fit(design.of(x)[known], y[known])
    found[:, model.classes_.astype(np.int64)] = _in_parts(
        schema, after, lambda rows: model.predict_proba(design.of(rows))
    )
    return found[:, 1] if schema.task == "binary" else found


def _in_parts(schema: ModelSchema, table: pa.Table, score: Callable[[Floats], Floats]) -> Floats:
    """Score rows some at a time: as a linear model sees them they take many columns."""
    parts = (table.slice(start, _ROWS) for start in range(0, max(table.num_rows, 1), _ROWS))
    return np.concatenate([score(_numbers(schema, part)) for part in parts])


def _numbers(schema: ModelSchema, table: pa.Table) -> Floats:
    """Return features as a matrix; an infinite value is none."""
    x: Floats = matrix(schema, table).astype(np.float64)
    x[~np.isfinite(x)] = np.nan
    return x


class _Design:
    """What rows become as numbers without gaps, by what was known before.

    Args:
        schema: says which features are categories.
        before: the rows that are known, as a matrix.
    """

    def __init__(self, schema: ModelSchema, before: Floats) -> None:
        self._columns: list[tuple[int, Floats | None, float, float]] = []
        for i, feature in enumerate(schema.features):
            there = before[:, i][~np.isnan(before[:, i])]
            if feature.kind == "category":
                codes, counts = np.unique(there, return_counts=True)
                self._columns.append((i, codes[np.argsort(-counts, kind="stable")][:_MOST_CATEGORIES], 0.0, 1.0))
                continue
            middle, spread = (float(np.median(there)), _spread(there)) if len(there) else (0.0, 0.0)
            self._columns.append((i, None, middle, spread or 1.0))

    def of(self, rows: Floats) -> Floats:
        """Return rows with categories as columns of 0 and 1, and numbers centred, scaled and cut off: one broken sensor is not to decide."""
        made = [np.zeros(len(rows))]  # where no feature has a value at all there is a column nevertheless
        for i, codes, middle, spread in self._columns:
            values = rows[:, i]
            if codes is not None:
                made += [(values == code) * 1.0 for code in codes]
            else:
                scaled = np.where(np.isnan(values), middle, values) / spread - middle / spread
                made.append(np.clip(scaled, -_FURTHEST, _FURTHEST))
        return np.column_stack(made)


def _spread(values: Floats) -> float:
    """Return the standard deviation, of numbers however large."""
    largest = float(np.abs(values).max())
    return float((values / largest).std()) * largest if largest else 0.0
