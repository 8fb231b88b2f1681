"""XGBoost's contributions add up to its scores, for every task, with categories and missing values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb

from ratchet.adapters.matrix import described, matrix
from ratchet.adapters.xgb import XgbTrainer
from ratchet.adapters.xgb_shap import contributions
from ratchet.domain.models import Feature, ModelFiles, ModelSchema
from ratchet.errors import DataRejected, NotExplained

ROWS = 400
PARAMS = {
    "binary": {"objective": "binary:logistic"},
    "multiclass": {"objective": "multi:softprob", "num_class": 3},
    "regression": {"objective": "reg:squarederror"},
    "quantile": {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]},
    "ranking": {"objective": "rank:ndcg"},
}
OUTPUTS = {"multiclass": 3, "quantile": 3}


def rows():
    """Return rows with a text that training meets, one that it does not, and missing values."""
    random = np.random.default_rng(3)
    x = random.normal(size=ROWS)
    texts = random.choice(["north", "south", "west"], ROWS).tolist()
    texts[0], texts[1] = None, "never met"
    return pa.table({
        "x": pa.array(x, mask=random.random(ROWS) < 0.1),
        "place": pa.array(texts),
        "y": pa.array(np.digitize(x + (np.array(texts) == "north") + random.normal(size=ROWS), [-0.5, 0.8]).astype(float)),
    })  # fmt: skip


def model(task, table, **params):
    features = (
        Feature(name="x", kind="number"),
        Feature(name="place", kind="category", categories=("north", "south", "west")),
    )
    schema = ModelSchema(task=task, features=features, best_iteration=19)
    y = table["y"].to_numpy()
    y = (y > 0).astype(float) if task == "binary" else y
    lists = {"qid": np.arange(ROWS) // 10} if task == "ranking" else {}
    data = xgb.DMatrix(matrix(schema, table), y, **described(schema), **lists)
    booster = xgb.train({**PARAMS[task], "max_depth": 4, "nthread": 1, **params}, data, 20)
    return ModelFiles(booster=bytes(booster.save_raw("ubj")), features="", schema_=schema), booster, data


@pytest.mark.parametrize("task", PARAMS)
def test_contributions_add_up(task):
    """Base and contributions are the raw score of each row and output, to rounding."""
    table = rows()
    files, booster, data = model(task, table)
    found = XgbTrainer().contributions(files, table)
    assert found.shape == (ROWS, OUTPUTS.get(task, 1), 3)
    margins = booster.predict(data, output_margin=True).reshape(ROWS, -1)
    assert np.abs(found.sum(axis=2) - margins).max() < 1e-4
    assert np.abs(found[:, :, 0]).mean() > 0.01  # x moves the scores


def test_a_text_never_met_counts_as_missing():
    """Two rows that differ only in that one has no text, the other an unknown one, are explained alike."""
    table = rows().slice(0, 1)
    files, *_ = model("binary", rows())
    unknown = table.set_column(1, "place", pa.array(["never met"]))
    assert (contributions(files, table) == contributions(files, unknown)).all()


def test_what_cannot_be_explained_is_said():
    """XGBoost has no contributions for trees of several outputs; that is an error of ours."""
    table = rows()
    schema = ModelSchema(task="regression", features=(Feature(name="x", kind="number"),), best_iteration=1)
    y = np.column_stack([table["y"].to_numpy()] * 2)
    data = xgb.DMatrix(matrix(schema, table), y, **described(schema))
    vector = xgb.train({"multi_strategy": "multi_output_tree", "tree_method": "hist", "nthread": 1}, data, 2)
    files = ModelFiles(booster=bytes(vector.save_raw("ubj")), features="", schema_=schema)
    with pytest.raises(NotExplained, match="XGBoost does not explain such a booster"):
        contributions(files, table)


def test_another_schema_is_refused():
    """Rows without one of the features are not explained."""
    table = rows()
    files, *_ = model("binary", table)
    with pytest.raises(DataRejected, match="place is missing"):
        contributions(files, table.select(["x", "y"]))
