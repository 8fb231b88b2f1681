"""One row's prediction is a base and what each feature adds to it."""

from __future__ import annotations

import io
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb
from small_world import NIGHT, QuickTrainer

from ratchet.adapters.matrix import described, matrix
from ratchet.domain import layout
from ratchet.domain.models import Feature, ModelFiles, ModelSchema, ModelVersion
from ratchet.errors import ActionRefused, NotExplained
from ratchet.steps.explain_row import explain_row, model, recorded_explanation, row_of_night
from ratchet.steps.versions import Known, known

NEXT = NIGHT + timedelta(days=1)
WORDS = "the row that was given"


def kept_predictions(world, night):
    return pq.read_table(io.BytesIO(world.store.get(night.evaluate.predictions)))


def explained(world, row_id, number=None, cutoff=None):
    found = known(world.services, "small", number, "explanation")
    files = model(world.services, found)
    row, words = row_of_night(world.services, "small", found, files, row_id, cutoff)
    return explain_row(world.services, "small", found, files, row, words)


def test_every_kept_prediction_can_be_explained(world):
    """Base and contributions make the very prediction that the night has kept, for rows by their number in it."""
    kept = kept_predictions(world, world.night())
    for row in kept.slice(0, 12).to_pylist():
        found = explained(world, row["row_id"])
        assert found.prediction == row["challenger"]
        assert found.base + sum(part.contribution for part in found.parts) == pytest.approx(found.margin, abs=1e-5)
        assert 1 / (1 + np.exp(-found.margin)) == pytest.approx(found.prediction, abs=1e-6)
        assert found.label == str(bool(row["label"]))
        assert {part.name for part in found.parts} == {"x", "z", "place"}
        assert {part.value for part in found.parts if part.name == "place"} <= {"north", "south"}
        assert str(row["dt"]) in found.row


def test_the_champion_is_asked_unless_a_version_is_named(reigning):
    """By default it is whoever serves; any other version can be asked, about another night's rows too."""
    reigning.land(NEXT)
    night = reigning.night(NEXT)
    row = kept_predictions(reigning, night).to_pylist()[-1]
    assert explained(reigning, row["row_id"], number=2).prediction == row["challenger"]
    champion = explained(reigning, row["row_id"], number=1, cutoff=NEXT)
    assert champion.prediction == row["champion"]
    assert champion.version == 1
    assert known(reigning.services, "small", None, "explanation").serves


def test_a_row_that_is_not_there_names_the_window(reigning):
    """A number of another snapshot, or none at all, is answered with where numbers come from."""
    with pytest.raises(
        ActionRefused, match=r"no labelled row 40 .* window 2024-03-01 … 2024-03-08.*predictions.parquet"
    ) as refused:
        explained(reigning, 40)
    assert "--row" not in str(refused.value)


@pytest.mark.parametrize(
    ("prefix", "words"), [(layout.nights("small"), "no record of the night"), ("recipes/small/", "the recipe of the night")]
)  # fmt: skip
def test_what_is_not_on_record_is_said(reigning, prefix, words):
    """Without the night's record its rows have no numbers; the row itself can still be given."""
    for key in reigning.store.keys(prefix):
        reigning.store.lose(key)
    with pytest.raises(ActionRefused, match=f"{words}.*--row"):
        explained(reigning, 0)


def test_an_unknown_version_names_those_that_there_are(reigning):
    """So does a pipeline without any."""
    with pytest.raises(ActionRefused, match="no version 7; the newest are 1"):
        known(reigning.services, "small", 7, "explanation")
    with pytest.raises(ActionRefused, match="no version was registered yet"):
        known(reigning.services, "other", None, "explanation")


def test_a_night_of_no_such_cutoff_is_said(reigning):
    """Another night's rows need that night."""
    with pytest.raises(ActionRefused, match="no record of the night of 2024-03-09"):
        explained(reigning, 0, cutoff=NEXT)


def test_what_a_night_has_found_is_read_again(reigning):
    """The explanation of a version is its night's; an older version may have none."""
    found = known(reigning.services, "small", None, "explanation")
    assert recorded_explanation(reigning.services, "small", found).features[0].name == "x"
    for key in reigning.store.keys("runs/"):
        reigning.store.lose(key)
    with pytest.raises(ActionRefused, match="has left none"):
        recorded_explanation(reigning.services, "small", found)


PARAMS = {
    "multiclass": {"objective": "multi:softprob", "num_class": 3},
    "regression": {"objective": "reg:squarederror"},
    "quantile": {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]},
    "ranking": {"objective": "rank:ndcg"},
}


def fitted(task):
    """Return a model of a task, a row for it, and what is known of it."""
    random = np.random.default_rng(8)
    table = pa.table({"x": random.normal(size=300), "place": random.choice(["north", "south"], 300)})
    schema = ModelSchema(
        task=task,
        features=(Feature(name="x", kind="number"), Feature(name="place", kind="category", categories=("north", "south"))),
        classes=("cold", "hot", "mild") if task == "multiclass" else (),
        quantiles=(0.1, 0.5, 0.9) if task == "quantile" else (),
        best_iteration=9,
    )  # fmt: skip
    y = np.digitize(table["x"].to_numpy() + random.normal(size=300), [-0.5, 0.5]).astype(float)
    lists = {"qid": np.arange(300) // 10} if task == "ranking" else {}
    booster = xgb.train(
        {**PARAMS[task], "nthread": 1}, xgb.DMatrix(matrix(schema, table), y, **described(schema), **lists), 10
    )
    files = ModelFiles(booster=bytes(booster.save_raw("ubj")), features="", schema_=schema)
    version = ModelVersion(
        version=3, run_key="k", mlflow_run_id="r", artifact_digest=files.digest, seen_through=NIGHT, cutoff=NIGHT
    )
    return files, table, Known(version, serves=False, ledger=())


@pytest.mark.parametrize("task", PARAMS)
def test_every_task_is_explained(world, task):
    """The chosen output's base and contributions make its prediction; the other outputs stand beside."""
    files, table, version = fitted(task)
    for i in range(0, 60, 7):
        row = table.slice(i, 1)
        found = explain_row(world.services, "small", version, files, row, WORDS)
        predicted = np.atleast_1d(world.services.trainer.predict(files, row)[0])
        assert found.prediction in predicted
        assert list(found.predictions.values()) == (predicted.tolist() if len(predicted) > 1 else [])
        assert found.base + sum(p.contribution for p in found.parts) == pytest.approx(found.margin, abs=1e-5)
        assert found.label is None


def test_the_likeliest_class_is_explained_unless_another_is_named(world):
    """And the middle quantile likewise; what the model has not is refused, with what it has."""
    files, table, version = fitted("multiclass")
    row = table.slice(0, 1)
    found = explain_row(world.services, "small", version, files, row, WORDS)
    assert found.prediction == max(found.predictions.values())
    assert found.predictions[found.output] == found.prediction
    named = explain_row(world.services, "small", version, files, row, WORDS, "cold")
    assert (named.output, named.prediction) == ("cold", found.predictions["cold"])
    with pytest.raises(ActionRefused, match="no output 'tepid'; there are cold, hot, mild"):
        explain_row(world.services, "small", version, files, row, WORDS, "tepid")
    files, table, version = fitted("quantile")
    assert explain_row(world.services, "small", version, files, table.slice(0, 1), WORDS).output == "0.5"
    files, table, version = fitted("regression")
    with pytest.raises(ActionRefused, match="a regression model has one number a row"):
        explain_row(world.services, "small", version, files, table.slice(0, 1), WORDS, "0.5")


def test_values_are_told_as_the_model_sees_them(world):
    """A text that training never met is shown with what becomes of it; a missing value as missing."""
    files, _, version = fitted("regression")
    row = pa.table({"x": pa.array([None], pa.float64()), "place": pa.array(["west"])})
    parts = {p.name: p for p in explain_row(world.services, "small", version, files, row, WORDS).parts}
    assert (parts["x"].value, parts["x"].note) == ("missing", "")
    assert (parts["place"].value, parts["place"].note) == ("west", "training never met it: it counts as missing")


class Wrong(QuickTrainer):
    """Explains another model than it predicts with."""

    def contributions(self, files, table):
        """See ``ports.Trainer.contributions``."""
        return super().contributions(files, table) + 0.5


def test_contributions_that_do_not_add_up_are_not_shown(world):
    """What does not lead to the prediction explains nothing."""
    files, table, version = fitted("regression")
    with pytest.raises(NotExplained, match=r"base and contributions give .*, the model predicts"):
        explain_row(world.machine("wrong", Wrong()), "small", version, files, table.slice(0, 1), WORDS)
