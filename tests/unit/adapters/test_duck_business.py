"""SQL aggregates over predictions: what they see, what they may be, and what days are drawn."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ratchet.adapters.duck_business import aggregates
from ratchet.errors import SpecInvalid

DAYS = np.repeat(np.array(["2024-01-01", "2024-01-02", "2024-01-04"], "datetime64[D]"), [3, 2, 1])
ROWS = pa.table(
    {
        "dt": pa.array(DAYS),
        "label": [1.0, 0.0, 0.0, 1.0, 0.0, 1.0],
        "prediction": [0.9, 0.2, 0.6, 0.4, 0.1, 0.8],
        "place": ["a", "b", "a", "b", "a", None],
    }
)
ALL = np.ones((1, 3))


def of(sql, rows=ROWS, weights=ALL):
    """Compute one aggregate."""
    return aggregates(rows, {"found": sql}, weights)["found"]


def test_an_aggregate_sees_labels_predictions_days_and_features():
    """Any aggregate of them gives a number, FILTER and CASE included."""
    found = aggregates(
        ROWS,
        {
            "cost": "avg(CASE WHEN prediction >= 0.5 THEN 5 WHEN label = 1 THEN 40 ELSE 0 END)",
            "at_b": "count(*) FILTER (WHERE place = 'b')",
            "days": "count(DISTINCT dt) -- of the hold-out",
            "middle": "quantile_cont(prediction, 0.5)",
            "any": "bool_or(label = 1)",
            "nothing": "avg(label) FILTER (WHERE place = 'c')",
        },
        ALL,
    )
    assert {name: float(values[0]) for name, values in found.items()} == pytest.approx(
        {"cost": 55 / 6, "at_b": 2, "days": 3, "middle": 0.5, "any": 1, "nothing": float("nan")}, nan_ok=True
    )


def test_a_day_counts_as_often_as_it_is_drawn():
    """Weights leave days out or count their rows again; equal draws give equal values, and nothing drawn gives nothing."""
    weights = np.array([[1.0, 1, 1], [0, 1, 1], [2, 0, 1], [0, 0, 0], [2, 0, 1]])
    assert of("sum(label)", weights=weights)[:3] == pytest.approx([3, 2, 3])
    mean = of("avg(label)", weights=weights)
    assert mean == pytest.approx([3 / 6, 2 / 3, 3 / 7, float("nan"), 3 / 7], nan_ok=True)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("label", "gives a value for each row; expected one for all of them"),
        ("1", "gives a value for each row"),
        ("max(place)", "gives a VARCHAR; expected a number"),
        ("avg(lable)", '"lable" not found in FROM clause!. The columns are dt, label, prediction, place'),
        ("sum(label) OVER ()", "a window function is not allowed"),
        ("(SELECT 1)", "a query within the expression is not allowed"),
        ("(SELECT count(*) FROM read_csv('/etc/passwd'))", "a query within the expression"),
        ("count(*) FILTER (WHERE label IN (SELECT 1))", "a query within the expression"),
        ("avg(label) FROM range(3)", "syntax error"),
        ("avg(label); DROP TABLE predictions", "expected one SELECT, found 2 statements"),
        ("avg(label + random())", "random would give another value each time"),
        ("count(CASE WHEN dt < today() THEN 1 END)", "today would give another value each time"),
        ("sum(CAST(place AS INTEGER))", "could not be computed over the predictions"),
    ],
)
def test_what_is_no_aggregate_is_refused_by_its_name(sql, words):
    """Nothing but the predictions can be read, nothing that differs from night to night, and the values of rows are not told."""
    with pytest.raises(SpecInvalid) as caught:
        of(sql)
    assert "evaluation.business.found" in str(caught.value)
    assert words in str(caught.value)
    assert "'b'" not in str(caught.value)


def test_an_expression_is_tried_on_no_rows():
    """Before there are predictions it is known whether there can be a value."""
    nothing = ROWS.slice(0, 0)
    assert np.isnan(of("avg(label)", nothing, np.ones((1, 0)))).all()
    with pytest.raises(SpecInvalid, match="lable"):
        of("avg(lable)", nothing, np.ones((1, 0)))
