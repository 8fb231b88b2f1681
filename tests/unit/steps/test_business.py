"""Metrics of one's own, over whole nights: computed for both models, bounded by gates, refused before anything is fitted."""

from __future__ import annotations

import io
from datetime import timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from small_world import NIGHT, SPEC, World

from ratchet.domain.night import EvaluateResult
from ratchet.errors import SpecInvalid

NEXT = NIGHT + timedelta(days=1)
COST = "avg(CASE WHEN prediction >= 0.3 THEN 5 WHEN label = 1 THEN 40 ELSE 0 END)"


def world(tmp_path, business, gates=(), **target):
    """Return a world whose spec has metrics of its own."""
    spec = yaml.safe_load(SPEC)
    spec["evaluation"]["business"] = business
    spec["target"].update(target)
    metric = {"binary": "auc", "multiclass": "accuracy"}.get(spec["target"]["task"], "mae")
    side = "at_most" if metric == "mae" else "at_least"
    spec["gates"] = [{"kind": "bound", "metric": metric, side: 0.0 if side == "at_least" else 99.0}, *gates]
    return World(tmp_path, yaml.safe_dump(spec)).land_all()


def test_they_are_computed_for_both_models_and_compared(tmp_path):
    """Of the challenger on the hold-out, of both on the rows that neither has seen, with intervals, and logged with the run."""
    here = world(tmp_path, {"cost": COST, "rows": "count(*)", "none": "avg(label) FILTER (WHERE place = 'west')"})
    first = here.night()
    assert first.evaluate.case.metrics["business.rows"].value == first.evaluate.rows == 120
    here.land(NEXT)
    found = here.night(NEXT).evaluate
    kept = pq.read_table(io.BytesIO(here.store.get(found.predictions)))
    y, p = kept["label"].to_numpy(), kept["challenger"].to_numpy()
    cost = np.where(p >= 0.3, 5.0, np.where(y == 1, 40.0, 0.0)).mean()
    assert found.challenger["business.cost"] == pytest.approx(cost)
    low, high = found.case.intervals["business.cost"]
    assert low < cost < high
    compared = found.differences["business.cost"]
    assert compared.champion == found.champion["business.cost"]
    assert compared.rows == found.common_rows
    assert found.differences["business.rows"].difference == 0
    assert (found.challenger["business.none"], found.champion["business.none"]) == (None, None)
    assert EvaluateResult.model_validate_json(found.model_dump_json()) == found
    run = here.registry.runs[here.night(NEXT).train.mlflow_run_id]
    assert run.metrics["holdout.business.cost"] == pytest.approx(cost)
    assert "champion.business.cost" in run.metrics


def test_a_gate_may_bound_them(tmp_path):
    """The bound decides like that of any metric."""
    gate = {"kind": "bound", "metric": "business.cost", "at_most": 0.5, "min_rows": 1}
    night = world(tmp_path, {"cost": COST}, [gate]).night()
    assert night.outcome == "refused"
    assert "business.cost ≤ 0.5" in night.reasons[0]


@pytest.mark.parametrize(
    ("target", "sql", "between"),
    [
        ({"task": "multiclass", "sql": "CASE WHEN x > 0.7 THEN 'high' WHEN y THEN 'middle' ELSE 'low' END"},
         "avg(CASE WHEN label = prediction THEN probability ELSE 0 END)", (0.05, 1)),
        ({"task": "regression", "sql": "x + z / 9"}, "sum(abs(label - prediction)) / sum(abs(x))", (0, 2)),
    ],
)  # fmt: skip
def test_each_task_shows_what_it_predicts(tmp_path, target, sql, between):
    """Classes are told by name, values as they are, beside the features."""
    found = world(tmp_path, {"found": sql}, **target).night().evaluate
    low, high = between
    assert low < found.challenger["business.found"] < high


def test_what_does_not_fit_is_refused_before_anything_is_fitted(tmp_path):
    """A column that there is not is told by its metric, and no run was begun."""
    here = world(tmp_path, {"cost": "avg(lable)"})
    with pytest.raises(
        SpecInvalid, match=r"evaluation\.business\.cost: .*lable.*The columns are dt, x, z, place, label"
    ):
        here.night()
    assert not here.registry.runs
