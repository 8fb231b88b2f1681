"""What a spec may say of a fit: weights, order, threads and memory."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ratchet.errors import SpecInvalid
from ratchet.home import parse_spec
from ratchet.spec import Pipeline

SPEC = {
    "name": "demo",
    "description": "A demo.",
    "owner": {"name": "me"},
    "source": {"uri": "s3://lake/t/", "format": "csv"},
    "window": {"days": 20, "holdout_days": 5, "stop_days": 3},
    "validation": {"suite": "demo"},
    "features": "demo",
}
GATES = {
    "binary": {"kind": "bound", "metric": "auc", "at_least": 0.6},
    "multiclass": {"kind": "bound", "metric": "log_loss", "at_most": 2.0},
    "regression": {"kind": "bound", "metric": "rmse", "at_most": 2.0},
    "ranking": {"kind": "bound", "metric": "ndcg", "at_least": 0.1},
}


def spec(training: str, task: str = "binary"):
    """Read a spec with this training section, as YAML."""
    listed = {"group": "list"} if task == "ranking" else {}
    given: dict[str, Any] = {**SPEC, "target": {"task": task, "sql": "y", **listed}, "gates": [GATES[task]]}
    return parse_spec(yaml.safe_dump({**given, "training": yaml.safe_load(training)}), "demo.yaml")


@pytest.mark.parametrize(
    ("written", "weights"),
    [
        ("{class_weights: {'1': 4.0}}", {"1": 4.0}),
        ("{class_weights: {1: 4, 0: 0.5}}", {"1": 4.0, "0": 0.5}),
        ("{class_weights: {true: 4.0}}", {"1": 4.0}),
        ("{class_weights: {late: 4.0}}", {"late": 4.0}),
        ("{class_weights: balanced}", "balanced"),
    ],
)
def test_classes_are_named_as_yaml_reads_them(written, weights):
    """Numbers, booleans and texts name a class alike."""
    assert spec(written).training.class_weights == weights


@pytest.mark.parametrize("written", ["{class_weights: {1: 0}}", "{class_weights: {1: .inf}}", "{class_weights: even}"])
def test_weights_that_are_none_are_refused(written):
    """A weight is a number above 0."""
    with pytest.raises(SpecInvalid, match=r"training\.class_weights"):
        spec(written)


def test_what_has_no_classes_has_no_class_weights():
    """The words name what weighs rows of such a task."""
    with pytest.raises(SpecInvalid, match="a regression task has no classes; half_life_days weighs rows by age"):
        spec("{class_weights: balanced}", "regression")
    assert spec("{half_life_days: 30.0}", "regression").training.half_life_days == 30.0


def test_classes_cannot_be_held_monotone():
    """Where one may only rise, the others must fall."""
    with pytest.raises(SpecInvalid, match="of a multiclass task a feature can raise no class without lowering others"):
        spec("{monotone: {x: increasing}}", "multiclass")
    with pytest.raises(SpecInvalid, match=r"training\.monotone\.x"):
        spec("{monotone: {x: up}}")
    assert spec("{monotone: {x: decreasing}}").training.monotone == {"x": "decreasing"}


@pytest.mark.parametrize(
    ("training", "same"),
    [
        ("{threads: 7}", True),
        ("{memory_gib: 0.5}", True),
        ("{half_life_days: 9.0}", False),
        ("{class_weights: balanced}", False),
        ("{monotone: {x: increasing}}", False),
        ("{device: cuda}", False),
        ("{engine: dask}", False),
        ("{refit: true}", False),
    ],
)
def test_a_recipe_holds_what_decides_the_bytes_of_a_model(training, same):
    """Threads and memory do not, so that a model fitted on another machine is the same recipe's."""
    one, other = (Pipeline(spec=spec(words), suite={}, sql="") for words in ("{}", training))
    assert (one.recipe == other.recipe) is same


def test_lists_are_weighed_on_one_machine_only():
    """XGBoost has no weights of lists on Dask, so a spec cannot ask for them."""
    with pytest.raises(SpecInvalid, match="half_life_days: XGBoost weighs no lists on Dask"):
        spec("{engine: dask, half_life_days: 30.0}", "ranking")
    assert spec("{half_life_days: 30.0}", "ranking").training.half_life_days == 30.0
    assert spec("{engine: dask, half_life_days: 30.0}").training.engine == "dask"
