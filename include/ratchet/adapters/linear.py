"""The linear baseline: what a regression on the same features, without any care, would have given."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from ratchet.adapters.xgb import labels, matrix

if TYPE_CHECKING:
    import pyarrow as pa

    from ratchet.domain.models import ModelSchema
    from ratchet.ports import Floats

_MOST_ROWS = 50_000  # to fit on, evenly over the days; a linear model learns little from more
_MOST_CATEGORIES = 50  # of a column get a coefficient of their own, the most frequent first


def linear_predictions(schema: ModelSchema, before: pa.Table, after: pa.Table) -> Floats:
    """Fit a logistic or ridge regression on the rows before, and score those after.

    Numbers are centred and scaled, missing ones take the median, and categories get a column each.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    before = before.take(np.linspace(0, before.num_rows - 1, min(before.num_rows, _MOST_ROWS)).astype(np.int64))
    y = labels(schema, before)
    x, rows = _design(schema, before, after)
    if schema.task == "regression":
        values: Floats = Ridge().fit(x, y).predict(rows)
        return values
    known = y >= 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a baseline that has not quite converged is still a baseline
        model = LogisticRegression(max_iter=200).fit(x[known], y[known])
    found = np.zeros((after.num_rows, len(schema.classes)))
    found[:, model.classes_.astype(np.int64)] = model.predict_proba(rows)
    return found[:, 1] if schema.task == "binary" else found


def _design(schema: ModelSchema, before: pa.Table, after: pa.Table) -> tuple[Floats, Floats]:
    """Return both tables as matrices of numbers, by what is known before."""
    one, two = (matrix(schema, table).astype(np.float64) for table in (before, after))
    columns = []
    for i, feature in enumerate(schema.features):
        a, b = one[:, i], two[:, i]
        if feature.kind == "category":
            codes, counts = np.unique(a[~np.isnan(a)], return_counts=True)
            columns += [
                ((a == c) * 1.0, (b == c) * 1.0) for c in codes[np.argsort(-counts, kind="stable")][:_MOST_CATEGORIES]
            ]
            continue
        there = a[~np.isnan(a)]
        middle, spread = (float(np.median(there)), float(there.std())) if len(there) else (0.0, 0.0)
        scaled = [(np.where(np.isnan(side), middle, side) - middle) / (spread or 1.0) for side in (a, b)]
        columns.append((scaled[0], scaled[1]))
    return np.column_stack([a for a, _ in columns]), np.column_stack([b for _, b in columns])
