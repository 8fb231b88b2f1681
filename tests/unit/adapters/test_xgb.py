"""The trainer beside its fits: the linear baseline, and the process that tries a registered artifact."""

from __future__ import annotations

import subprocess
import sys
import warnings
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters import batches, linear
from ratchet.adapters import xgb as module
from ratchet.adapters.linear import linear_predictions
from ratchet.adapters.matrix import described, kind_of, labels, matrix
from ratchet.adapters.weights import weights
from ratchet.adapters.xgb import XgbTrainer
from ratchet.domain.models import Feature, ModelFiles, ModelSchema
from ratchet.domain.windows import Span, windows
from ratchet.errors import DataRejected, SpecInvalid
from ratchet.ports import TrainingPlan
from ratchet.tables import GROUP, FeatureFrame, FeatureQuery

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


# On disk, in parts, on as many threads as there are.


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_model_does_not_depend_on_where_its_matrices_lay(task, tmp_path):
    """Beyond the plan's memory they lie in the cache, page by page; the bytes are the same, and nothing stays."""
    given, trainer = frame(task), XgbTrainer(tmp_path)
    small = planned(task, memory_gib=1e-6, half_life_days=5.0)
    with trainer.prepare(given, DAYS, small, QUERY) as prepared:
        assert prepared.on_disk
        (folder,) = [path for path in (tmp_path / "matrices").iterdir() if path.is_dir()]
        assert {path.suffix for path in folder.iterdir()} == {".page", ""}
        found = trainer.boost(prepared, small)
    assert [path.name for path in (tmp_path / "matrices").iterdir()] == ["lock"]
    assert found.files.digest == fitted(given, task, half_life_days=5.0).files.digest


def test_a_model_does_not_depend_on_how_many_threads_made_it():
    """Nor on how wide a batch is: rows of many features come in smaller ones."""
    given = frame()
    whole = fitted(given)
    for threads in (2, 3, 8):
        assert fitted(given, threads=threads).files.digest == whole.files.digest
    assert [batches.rows_at_a_time(features) for features in (1, 64, 640, 10**9)] == [250_000, 250_000, 25_000, 1]


def test_rows_are_made_into_numbers_once_where_they_fit(monkeypatch):
    """XGBoost goes over them several times; where memory does not hold the numbers, they are made each time."""
    made, real = [], batches.matrix

    def counted(schema, table):
        made.append(table.num_rows)
        return real(schema, table)

    monkeypatch.setattr(batches, "matrix", counted)
    one, rows_ = fitted(frame()).files.digest, 20 * 300 - 3 * 300
    assert sum(made) == rows_
    made.clear()
    assert fitted(frame(), memory_gib=batches.in_memory(rows_, 3, 1) / 2**30).files.digest == one
    assert sum(made) > 2 * rows_


def test_what_killed_processes_left_goes_with_the_next_fit(tmp_path):
    """A folder of matrices whose process lives is left alone; one whose process was killed in the middle of a fit is not."""
    code = (
        "import sys, time; from pathlib import Path; from ratchet.adapters.batches import aside\n"
        "with aside(Path(sys.argv[1]), 0) as folder:\n"
        "    (folder / 'matrix.page').write_bytes(b'x'); print(folder, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            left = Path(process.stdout.readline().strip())
            fitted(frame(), trainer=XgbTrainer(tmp_path))
            assert (left / "matrix.page").exists()
        finally:
            process.kill()
    (tmp_path / "matrices" / "halfway").mkdir()  # killed before it had locked anything
    fitted(frame(), trainer=XgbTrainer(tmp_path))
    assert [path.name for path in (tmp_path / "matrices").iterdir()] == ["lock"]


def test_a_disk_too_small_for_the_matrices_is_told_beforehand(tmp_path):
    """The night is refused for want of room, with what is needed, what there is and what to do."""
    with (
        pytest.raises(
            DataRejected, match=r"matrices of about 10,000,000,000,000,000 bytes are .* RATCHET_CACHE"
        ) as caught,
        batches.aside(tmp_path, 10**16),
    ):
        pytest.fail("there is no such disk")
    assert caught.value.reason == "resource"


def test_a_disk_that_fills_up_ends_the_fit_and_not_the_process(tmp_path):
    """It is met before XGBoost meets it, which would abort; on whichever of its ways through the rows, nothing stays."""
    given, span = frame(each=20), Span(first=date.min, last=DAYS.fit.last)
    schema, _ = module.learnt(given, span, planned(), QUERY)

    class Filling(batches.Rows):
        """The disk is full when so many ways through the rows have been gone."""

        def __init__(self, ways):
            super().__init__(schema, given, span)
            self.ways = ways

        def __iter__(self):
            self.ways -= 1
            for batch in super().__iter__():
                if self.ways < 0:
                    raise DataRejected("resource", "the disk is full")
                yield batch

    ways = 0
    while True:
        try:
            with batches.aside(tmp_path, 0) as folder, batches.quantiles(Filling(ways), planned(), folder=folder):
                break
        except DataRejected:
            assert [path.name for path in (tmp_path / "matrices").iterdir()] == ["lock"]
        ways += 1
    assert ways >= 2


def test_memory_that_runs_out_is_told_as_such():
    """XGBoost's own words for it do not say what to do."""
    from xgboost.core import XGBoostError

    for error in (MemoryError(), XGBoostError("std::bad_alloc")):
        with (
            pytest.raises(DataRejected, match=r"out of memory. Lower training.memory_gib") as caught,
            batches.refusals(),
        ):
            raise error
        assert caught.value.reason == "resource"


# How much rows count.


def weighed(given, **how):
    """Return what XGBoost is told of how much each row counts, and the rows."""
    plan = planned(how.pop("task", "binary"), **how)
    span = Span(first=date.min, last=DAYS.fit.last)
    schema, _ = module.learnt(given, span, plan, QUERY)
    fit = given.days(span.first, span.last)
    return weights(schema, given, span, plan)(fit, labels(schema, fit)), fit


def test_balanced_classes_weigh_the_same_together():
    """And all rows together as much as they would unweighed."""
    found, fit = weighed(frame("multiclass"), task="multiclass", class_weights="balanced")
    names = np.array(fit["target"].to_pylist())
    sums = [found[names == name].sum() for name in ("low", "middle", "high")]
    assert sums == pytest.approx([fit.num_rows / 3] * 3)


def test_classes_weigh_what_is_said_and_others_one():
    """A class is named as the target tells it; that of TRUE is 1."""
    found, fit = weighed(frame(), class_weights={"1": 2.5})
    assert np.array_equal(found, np.where(fit["target"].to_numpy(zero_copy_only=False), 2.5, 1.0))
    with pytest.raises(SpecInvalid, match=r"class_weights: no row up to .* has the class 'yes'; there are: '0', '1'"):
        fitted(frame(), class_weights={"yes": 2.0})


def test_a_row_counts_half_for_each_half_life_that_it_is_older():
    """By whole days before the last one that is fitted to; with class weights both count."""
    found, fit = weighed(frame(), half_life_days=2.0, class_weights={"0": 3.0})
    age = np.array([(DAYS.fit.last - day).days for day in fit["dt"].to_pylist()])
    expected = 0.5 ** (age / 2.0) * np.where(fit["target"].to_numpy(zero_copy_only=False), 1.0, 3.0)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[-1] in {1.0, 3.0}


def test_weights_change_the_fit_and_not_what_stops_it():
    """The same weight for all rows changes nothing; the watched days are never weighed."""
    given = frame()
    plain = fitted(given)
    assert fitted(given, class_weights={"0": 1.0, "1": 1.0}).files.digest == plain.files.digest
    tilted = fitted(given, class_weights={"1": 5.0}, half_life_days=3.0)
    assert tilted.files.digest != plain.files.digest
    stop = given.days(DAYS.stop.first, DAYS.stop.last)
    score = XgbTrainer().predict(tilted.files, stop)
    y = stop["target"].to_numpy(zero_copy_only=False)
    loss = -np.log(np.where(y, score, 1 - score)).mean()
    assert tilted.curves["logloss"][tilted.files.schema_.best_iteration] == pytest.approx(loss, rel=1e-6)


def test_of_a_ranking_lists_are_weighed():
    """Each as its rows, which are of one day; a batch holds whole lists."""
    days = [date(2024, 5, 1)] * 5 + [date(2024, 5, 3)] * 2
    lists = ["a", "a", "b", "b", "b", "a", "a"]
    table = rows(7, target=pa.array([0, 1, 2, 0, 1, 1, 0]), dt=pa.array(days, pa.date32()))
    table = table.append_column(GROUP, pa.array([f"{day} {name}" for day, name in zip(days, lists, strict=True)]))
    whole = FeatureFrame(table=table, landed=7, unlabelled=0, dropped=0, columns={})
    span = Span(first=days[0], last=days[-1])
    plan = planned("ranking", half_life_days=1.0)
    found = batches.told(schema("ranking"), table, weights(schema("ranking"), whole, span, plan))
    assert found["qid"].tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert found["weight"].tolist() == [0.25, 0.25, 1.0]


# What a prediction may do, and where it is made.


def test_a_prediction_held_monotone_never_falls():
    """However the rows lie: here the target falls with x, and the prediction may only rise with it."""
    given = frame()
    x = given.table["x"].fill_null(0.0).to_numpy()
    falling = given.table.set_column(given.table.column_names.index("target"), "target", pa.array(x < 0))
    held = fitted(given.model_copy(update={"table": falling}), monotone={"x": "increasing"})
    grid = np.linspace(-4, 4, 50)
    line = pa.table({"x": grid, "empty": pa.nulls(50, pa.float64()), "place": ["a"] * 50})
    assert (np.diff(XgbTrainer().predict(held.files, line)) >= 0).all()


def test_only_numbers_of_the_query_can_be_held_monotone():
    """Of others the night is told which can."""
    with pytest.raises(SpecInvalid) as caught:
        fitted(frame(), monotone={"place": "increasing", "y": "decreasing", "x": "increasing"})
    assert [problem.key for problem in caught.value.problems] == ["training.monotone.place", "training.monotone.y"]
    assert "'place' is a category, and has no order; numbers do, there are: x, empty" in str(caught.value)
    assert "'y' is no feature of the query" in str(caught.value)


def test_a_device_that_is_not_there_is_refused():
    """XGBoost itself would fit on the CPU and warn; where there is a GPU, it is used."""
    import xgboost as xgb

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        xgb.train({"device": "cuda"}, xgb.DMatrix(np.ones((2, 1)), [0.0, 1.0]), 1)
    if not any("GPU" in str(warning.message) for warning in said):
        assert fitted(frame(), device="cuda").rows
        return
    with pytest.raises(
        SpecInvalid, match=r"training.device: XGBoost .* finds no such device on this machine \(No visible GPU"
    ):
        fitted(frame(), device="cuda")


def test_bins_are_as_many_as_the_spec_says():
    """Fewer of them make another model; a number that is none is refused as XGBoost's parameters are."""
    given = frame()
    assert fitted(given, params={"max_bin": 16}).files.digest != fitted(given).files.digest
    for params in ({"max_bin": "many"}, {"booster": "gblinear"}, {"tree_method": "exact"}):
        with pytest.raises(SpecInvalid, match=r"training.params: XGBoost refused them: "):
            fitted(given, params=params)


def test_a_parameter_that_is_not_known_is_refused_however_quiet_xgboost_is_asked_to_be():
    """With a verbosity of 0 it would keep to itself that a misspelt parameter changes nothing."""
    for params in ({"verbosity": 0, "etta": 0.1}, {"validate_parameters": False, "etta": 0.1}):
        with pytest.raises(SpecInvalid, match=r"training.params: XGBoost does not use \"etta\" here"):
            fitted(frame(), params=params)


def test_what_xgboost_refuses_reads_the_same_at_any_time():
    """Its clock and the lines of its source are left out: a night that ends by it says the same when it is run again."""
    with pytest.raises(
        SpecInvalid,
        match=r"XGBoost refused them: up->CanModifyTree\(\): Updater: `grow_quantile_histmaker` can not be used",
    ):
        fitted(frame(), params={"process_type": "update"})
    with pytest.raises(SpecInvalid, match=r"XGBoost refused them: Unknown metric function nonsense$"):
        fitted(frame(), params={"eval_metric": "nonsense"})


# Fits on rows that were prepared once.


def test_prepared_rows_are_boosted_as_often_as_wanted():
    """Whatever was fitted to them before, each plan comes to the model that it comes to alone."""
    given, trainer = frame(), XgbTrainer()
    plans = [planned(params={"max_depth": depth}, seed=depth) for depth in (2, 4, 2)]
    with trainer.prepare(given, DAYS, plans[0], QUERY) as prepared:
        found = [trainer.boost(prepared, plan).files.digest for plan in plans]
    assert found == [trainer.fit(given, DAYS, plan, QUERY).files.digest for plan in plans]
    assert found[0] == found[2] != found[1]


def test_a_fit_may_be_ended_after_any_round():
    """Whoever asks for it is told the loss of the watched days, round by round."""
    given, trainer, heard = frame(), XgbTrainer(), []
    with trainer.prepare(given, DAYS, planned(), QUERY) as prepared:
        fit = trainer.boost(prepared, planned(), lambda done, loss: bool(heard.append((done, loss))) or done == 2)
    assert [done for done, _ in heard] == [0, 1, 2]
    assert tuple(loss for _, loss in heard) == fit.curves["logloss"]


def test_a_refit_grows_the_rounds_it_is_told_on_all_days_up_to_the_last():
    """Nothing is watched, categories are those of all these days, and the bytes are the same wherever its matrices lay."""
    given, whole = frame(), Span(first=DAYS.fit.first, last=DAYS.holdout.last)
    found = XgbTrainer().refit(given, whole, planned(), QUERY, 5)
    assert (found.rows, found.files.schema_.best_iteration, found.curves) == (20 * 300, 4, {})
    small = XgbTrainer().refit(given, whole, planned(memory_gib=1e-6), QUERY, 5)
    assert small.files.digest == found.files.digest
