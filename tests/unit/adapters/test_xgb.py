"""The trainer beside its fits: the linear baseline, and the process that tries a registered artifact."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters import batches, linear
from ratchet.adapters import xgb as module
from ratchet.adapters.linear import linear_predictions
from ratchet.adapters.matrix import described, kind_of, labels, matrix
from ratchet.adapters.xgb import XgbTrainer
from ratchet.domain.models import Feature, ModelFiles, ModelSchema
from ratchet.domain.windows import windows
from ratchet.errors import DataRejected, SpecInvalid
from ratchet.ports import FeatureFrame, FeatureQuery, TrainingPlan

FEATURES = (
    Feature(name="x", kind="number"),
    Feature(name="empty", kind="number"),
    Feature(name="place", kind="category", categories=("a", "b")),
)


def rows(n, seed=0, **given):
    """Return a table in which x and place tell the target."""
    rng = np.random.default_rng(seed)
    x, place = rng.normal(size=n), rng.choice(["a", "b", "new"], n)
    logit = 2 * x + np.where(place == "b", 3.0, 0.0)
    columns = {
        "x": pa.array(x, mask=rng.random(n) < 0.1),
        "empty": pa.nulls(n, pa.float64()),
        "place": pa.array(place),
        "target": logit + rng.normal(size=n) > 0,
    }
    return pa.table({**columns, **given})


def schema(task, classes=()):
    """Return a model's schema."""
    return ModelSchema(task=task, features=FEATURES, classes=classes, best_iteration=0)


def test_a_logistic_regression_learns_numbers_and_categories():
    """It ranks rows that it has not seen, missing values and unknown categories included."""
    after = rows(2000, 1)
    p = linear_predictions(schema("binary", ("0", "1")), rows(3000), after)
    y = after["target"].to_numpy(zero_copy_only=False)
    assert p.shape == (2000,)
    assert p[y].mean() - p[~y].mean() > 0.4


def test_classes_keep_their_columns():
    """A class that the rows before do not have gets 0; a label that the model never met is not learnt from."""
    target = pa.array(np.random.default_rng(2).choice(["low", "high", "never"], 300))
    p = linear_predictions(schema("multiclass", ("high", "low", "middle")), rows(300, target=target), rows(50, 1))
    assert p.shape == (50, 3)
    assert p.sum(axis=1) == pytest.approx(1)
    assert (p[:, 2] == 0).all()


def test_a_ridge_regression_predicts_values():
    """Of a line it finds the line."""
    before, after = (rows(n, n) for n in (2000, 100))
    line = [table["x"].fill_null(0.0).to_numpy() * 3 + 7 for table in (before, after)]
    before, after = (t.set_column(3, "target", pa.array(v)) for t, v in zip((before, after), line, strict=True))
    assert linear_predictions(schema("regression"), before, after) == pytest.approx(line[1], abs=0.3)


def test_a_baseline_is_scored_part_by_part(monkeypatch):
    """What it predicts of a row does not depend on how many rows are scored at a time."""
    given, before, after = schema("binary", ("0", "1")), rows(500), rows(300, 1)
    whole = linear_predictions(given, before, after)
    monkeypatch.setattr(linear, "_ROWS", 77)
    assert linear_predictions(given, before, after) == pytest.approx(whole, abs=1e-12)
    assert linear_predictions(given, before, after.slice(0, 1)) == pytest.approx(whole[:1], abs=1e-12)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """Return a small model as files in a folder, and the rows that it was evaluated on."""
    import xgboost as xgb

    folder = tmp_path_factory.mktemp("model")
    table, model = rows(500), schema("binary", ("0", "1"))
    data = xgb.DMatrix(matrix(model, table), labels(model, table), **described(model))
    booster = xgb.train({"objective": "binary:logistic", "nthread": 1, "max_depth": 2}, data, 3)
    files = ModelFiles(booster=bytes(booster.save_raw("ubj")), features="SELECT 1", schema_=model)
    for name, content in files.files.items():
        (folder / name).write_bytes(content)
    pq.write_table(table, folder.parent / "rows.parquet")
    np.save(folder.parent / "expected.npy", XgbTrainer().predict(files, table))
    return folder, files


def test_a_fresh_process_says_what_scoring_costs(artifact):
    """An artifact that gives the evaluated predictions is measured: its files, its latency and the process's memory."""
    folder, files = artifact
    tried = XgbTrainer().smoke(folder, files.digest, folder.parent / "rows.parquet", folder.parent / "expected.npy")
    assert tried.problem is None
    assert tried.cost.artifact_mib == pytest.approx(sum(map(len, files.files.values())) / 2**20)
    assert tried.cost.latency_ms > 0
    assert 10 < tried.cost.memory_mib < 4000


def test_an_artifact_that_predicts_otherwise_has_no_cost(artifact, tmp_path):
    """What differs from what was evaluated is told by the process, and its cost is nobody's concern."""
    folder, files = artifact
    expected = np.load(folder.parent / "expected.npy")
    expected[7] += 1e-9
    np.save(tmp_path / "expected.npy", expected)
    tried = XgbTrainer().smoke(folder, files.digest, folder.parent / "rows.parquet", tmp_path / "expected.npy")
    assert tried.problem == "1 of 500 predictions differ from those that were evaluated"
    assert tried.cost is None


DAYS = windows(date(2024, 5, 20), days=20, holdout_days=3, stop_days=3, label_delay_days=0)


def frame(task="binary", each=300, **given):
    """Return a frame of 20 days, in order."""
    n = each * 20
    target = rows(n)["target"]
    if task == "multiclass":
        names = np.array(["low", "middle", "high"])
        target = pa.array(names[np.random.default_rng(3).integers(0, 3, n)])
    if task == "regression":
        target = pa.array(np.random.default_rng(4).normal(size=n))
    dt = pa.array(np.repeat([date(2024, 5, 1) + timedelta(days=d) for d in range(20)], each), pa.date32())
    table = rows(n, target=target, dt=dt, row_id=pa.array(range(n)), **given)
    return FeatureFrame(table=table, landed=n, unlabelled=0, dropped=0, columns={})


QUERY = FeatureQuery(tables={}, sql="SELECT 1", hidden=(), target="1")


def planned(task="binary", **given):
    """Return a plan of a small fit."""
    plan = {
        "task": task,
        "params": {"max_depth": 3, "subsample": 0.7},
        "rounds": 8,
        "early_stopping_rounds": 4,
        "seed": 1,
        "threads": 1,
        "device": "cpu",
    }
    return TrainingPlan(**{**plan, **given})


def fitted(given, task="binary", trainer=None, **how):
    """Fit a small model."""
    return (trainer or XgbTrainer()).fit(given, DAYS, planned(task, **how), QUERY)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_model_and_its_scores_are_those_of_one_matrix_whatever_the_batches(task, monkeypatch):
    """Rows come in batches, so that memory does not grow with them; the bytes are those of all rows at once."""
    import xgboost as xgb

    given = frame(task)
    whole = fitted(given, task)
    found = XgbTrainer().predict(whole.files, given.table)
    for size in (77, 1000):
        monkeypatch.setattr(batches, "ROWS", size)
        assert fitted(given, task).files.digest == whole.files.digest
        assert (XgbTrainer().predict(whole.files, given.table) == found).all()
    schema, fit = whole.files.schema_, given.days(DAYS.fit.first, DAYS.fit.last)
    params = {"max_depth": 3, "subsample": 0.7, "objective": module._OBJECTIVE[task], "seed": 1, "nthread": 1}
    params |= {"num_class": 3} if task == "multiclass" else {}
    data = xgb.QuantileDMatrix(matrix(schema, fit), labels(schema, fit), **described(schema))
    booster = xgb.train(params, data, schema.best_iteration + 1)
    assert np.array_equal(
        booster.predict(xgb.DMatrix(matrix(schema, given.table), **described(schema))).astype(np.float64), found
    )


def test_rows_of_a_class_that_training_never_met_are_not_watched():
    """Early stopping goes by the others, and where there are no others the night is told so."""
    given = frame("multiclass")
    dt, target = given.table["dt"].to_pylist(), given.table["target"].to_pylist()

    def with_new(where):
        names = ["new" if where(i, d) else t for i, (d, t) in enumerate(zip(dt, target, strict=True))]
        table = given.table.set_column(given.table.column_names.index("target"), "target", pa.array(names))
        return given.model_copy(update={"table": table})

    assert fitted(with_new(lambda i, d: d in DAYS.stop and i % 2), "multiclass").files.schema_.classes == (
        "high", "low", "middle",
    )  # fmt: skip
    with pytest.raises(
        DataRejected, match=r"no row in the early-stopping days .* has a class that the days before have"
    ):
        fitted(with_new(lambda _, d: d in DAYS.stop), "multiclass")


@pytest.mark.parametrize(
    ("name", "kind", "sql"),
    [
        ("at", pa.timestamp("us", "UTC"), 'epoch("at")'),
        ("a day", pa.date32(), 'epoch("a day")'),
        ('so "called"', pa.time64("us"), 'epoch("so ""called""")'),
        ("who", pa.struct([("age", pa.int64())]), '"who"."age"'),
        ("tags", pa.list_(pa.string()), 'len("tags")'),
        ("tags", pa.map_(pa.string(), pa.int64()), 'cardinality("tags")'),
        ("raw", pa.binary(), 'hex("raw")'),
    ],
)
def test_a_feature_of_a_type_that_cannot_be_learnt_comes_with_sql_that_can(name, kind, sql):
    """The feature is named, and the expression that is proposed runs on such a column."""
    with pytest.raises(SpecInvalid) as caught:
        kind_of(name, kind)
    assert f"features: {name}: " in str(caught.value)
    assert str(caught.value).endswith(f"for example {sql}")
    one = pa.table({name: pa.nulls(1, kind)})
    assert duckdb.from_arrow(one).project(sql).fetchall() == [(None,)]


def test_features_may_be_called_what_xgboost_refuses():
    """Brackets, `<`, quotes and line breaks in names change neither scores nor importance."""
    given = frame("binary")
    odd = {"x": "x[0] <\n]", "empty": 'so "called"', "place": "größe_プロ 🎉"}
    renamed = given.model_copy(
        update={"table": given.table.rename_columns([odd.get(n, n) for n in given.table.column_names])}
    )
    plain, found = fitted(given, "binary"), fitted(renamed, "binary")
    assert found.importance == {odd[name]: gain for name, gain in plain.importance.items()}
    assert found.importance[odd["x"]] > 0
    scores = XgbTrainer().predict(found.files, renamed.table)
    assert (scores == XgbTrainer().predict(plain.files, given.table)).all()
