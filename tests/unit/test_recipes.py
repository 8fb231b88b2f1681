"""The recipe's digest: every setting that decides a model is in it, and one that stands at its default leaves it as it was."""

from __future__ import annotations

import typing
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from ratchet import spec as specs
from ratchet.domain.training_rules import Training
from ratchet.home import parse_spec
from ratchet.spec import Pipeline, PipelineSpec

SPEC: dict[str, Any] = yaml.safe_load("""
name: demo
description: A demo.
owner: {name: me}
source: {uri: s3://lake/t/, format: csv}
window: {days: 20}
validation: {suite: demo}
features: demo
target: {task: binary, sql: y}
gates: [{kind: bound, metric: auc, at_least: 0.6}]
""")
SETTINGS: dict[str, list[Any]] = {  # some that decide the model, their default first
    "source.partition": [{"by": "path"}, {"by": "path", "pattern": "{date}/"}, {"by": "column", "column": "dt"}],
    "source.null_values": [[""], ["", "NA"]],
    "source.ignore": [[], ["note"]],
    "source.completion": [None, {"by": "marker"}, {"by": "marker", "wait_hours": 4.0}, {"by": "quiet"}],
    "source.tables": [
        {},
        {"w": {"uri": "w/", "format": "csv"}},
        {"w": {"uri": "w/", "format": "csv", "days_before": 2}},
    ],
    "window.holdout_days": [7, 5],
    "window.max_age_days": [None, 0, 1],
    "validation.on_critical": ["quarantine", "reject"],
    "training.rounds": [500, 1],
    "training.seed": [0, 1],
    "training.refit": [False, True],
    "training.class_weights": [None, {}, "balanced", {"1": 2.0}],
    "training.half_life_days": [None, 1.0],
    "training.params": [{}, {"eta": 0.3}, {"max_depth": 6}],
}
DEFAULTS = {  # as recipes that are on record were made with them
    "ByManifest.name": "_manifest.json",
    "ByManifest.wait_hours": 3.0,
    "ByMarker.name": "_SUCCESS",
    "ByMarker.wait_hours": 3.0,
    "ByPath.pattern": "dt={date}/",
    "ByQuiet.minutes": 15.0,
    "ByQuiet.wait_hours": 3.0,
    "SideTable.columns": {},
    "SideTable.completion": None,
    "SideTable.days_before": 1,
    "SideTable.delimiter": ",",
    "SideTable.ignore": (),
    "SideTable.known_at": None,
    "SideTable.null_values": ("",),
    "SideTable.partition": {"by": "path", "pattern": "dt={date}/"},
    "Source.columns": {},
    "Source.completion": None,
    "Source.delimiter": ",",
    "Source.ignore": (),
    "Source.null_values": ("",),
    "Source.partition": {"by": "path", "pattern": "dt={date}/"},
    "Source.tables": {},
    "Source.unknown_at_prediction": (),
    "Target.group": None,
    "Target.quantiles": (),
    "Training.class_weights": None,
    "Training.device": "cpu",
    "Training.early_stopping_rounds": 30,
    "Training.engine": "local",
    "Training.half_life_days": None,
    "Training.monotone": {},
    "Training.params": {},
    "Training.refit": False,
    "Training.rounds": 500,
    "Training.seed": 0,
    "Validation.max_broken_rows": 0.1,
    "Validation.max_quarantined": 0.1,
    "Validation.max_quarantined_rows": 0.02,
    "Validation.on_critical": "quarantine",
    "Window.holdout_days": 7,
    "Window.label_delay_days": 0,
    "Window.max_age_days": None,
    "Window.min_partitions": 1,
    "Window.min_rows": 1,
    "Window.stop_days": 7,
}


class NextTraining(Training):
    """The training of a release that has one setting more."""

    dropout: float = Field(0.0, description="Says nothing today.")


class NextSpec(PipelineSpec):
    """A spec of that release."""

    training: NextTraining = Field(NextTraining(), description="How the booster is fitted.")


def pipeline(spec: PipelineSpec) -> Pipeline:
    """Return a pipeline of a spec."""
    return Pipeline(spec=spec, suite={}, sql="SELECT 1")


def written(choices: dict[str, Any]) -> PipelineSpec:
    """Return the spec with some settings written out."""
    data = {key: dict(value) if isinstance(value, dict) else value for key, value in SPEC.items()}
    for key, value in choices.items():
        section, field = key.split(".")
        data.setdefault(section, {})[field] = value
    return parse_spec(yaml.safe_dump(data), "demo.yaml")


def chosen() -> st.SearchStrategy[dict[str, Any]]:
    """Draw some settings, at their defaults or not."""
    return st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in SETTINGS.items()})


@given(one=chosen(), other=chosen())
def test_recipes_differ_where_a_setting_does(one, other):
    """Whether a default is written out or left to itself is one recipe; any other difference makes two."""
    same = all(one.get(key, values[0]) == other.get(key, values[0]) for key, values in SETTINGS.items())
    assert (pipeline(written(one)).recipe == pipeline(written(other)).recipe) is same


def test_each_setting_by_itself_is_in_the_recipe():
    """No two values of one setting are one recipe."""
    for key, values in SETTINGS.items():
        found = {pipeline(written({key: value})).recipe for value in values}
        assert len(found) == len(values), key


@pytest.mark.parametrize(("training", "same"), [({}, True), ({"dropout": 0.0}, True), ({"dropout": 0.1}, False)])
def test_a_release_with_a_new_setting_keeps_the_recipes_that_do_not_use_it(training, same):
    """What was proved of a recipe, and what is kept of a champion's, is not lost by a release that can do more."""
    later = NextSpec.model_validate({**SPEC, "training": training})
    assert (pipeline(later).recipe == pipeline(written({})).recipe) is same


def models(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    """Yield the models that a field can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models(part)


def defaults(model: type[BaseModel], leave_out: typing.Container[str] = ()) -> typing.Iterator[tuple[str, Any]]:
    """Yield each default of a model and of those below it, by class and field."""
    for name, field in model.model_fields.items():
        if name in leave_out:
            continue
        if not field.is_required():
            value = field.default
            yield f"{model.__name__}.{name}", value.model_dump() if isinstance(value, BaseModel) else value
        for below in models(field.annotation):
            yield from defaults(below)


def test_a_changed_default_is_told_apart():
    """A default stands in no digest: a release that changes one must count ``_DEFAULTS`` up, or two recipes would be called one."""
    found = {}
    for section in specs._DECIDES_MODEL:
        for model in models(PipelineSpec.model_fields[section].annotation):
            left_out = {"Training": specs._FINDS_PARAMETERS, "Validation": {"window"}}.get(model.__name__, set())
            found.update(defaults(model, left_out))
    assert {key: found.get(key) for key in DEFAULTS} == DEFAULTS, "count spec._DEFAULTS up, and write the new ones here"
    assert specs._DEFAULTS == 1, "and this number with it"
