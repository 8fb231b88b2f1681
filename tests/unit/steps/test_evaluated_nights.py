"""What evaluate leaves behind, of every task: metrics with intervals, paired differences, and a page that draws them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import yaml
from small_world import NIGHT, ROWS, SPEC, World

from ratchet.adapters.report import HtmlReporter
from ratchet.domain.gates import LOSSES, METRICS
from ratchet.domain.rivals import rivals

NEXT = NIGHT + timedelta(days=1)
TASKS = {  # what is bent, so that no regression is as good
    "binary": {"sql": "abs(x) + abs(z) > 1.4"},
    "multiclass": {"sql": "CASE WHEN abs(x) + abs(z) > 1.8 THEN 'high' WHEN abs(x) > 0.5 THEN 'middle' ELSE 'low' END"},
    "regression": {"sql": "abs(x) + z / 9"},
    "quantile": {"sql": "3 * abs(x) + z / 9", "quantiles": [0.1, 0.5, 0.9]},
    "ranking": {"sql": "(x > 0.3)::INT + (z > 1)::INT", "group": "dt || '/' || id % 8"},
}
BOUNDS = {"regression": {"metric": "rmse", "at_most": 99.0}, "quantile": {"metric": "pinball", "at_most": 99.0}}


def world_of(tmp_path, task, **columns):
    """Return a world of a task whose nights are shown by the real reporter."""
    spec = yaml.safe_load(SPEC)
    spec["target"] = {"task": task, **TASKS[task]}
    spec["window"]["min_rows"] = 20
    spec["evaluation"] = {"slices": ["place"], "business": {"mean": "avg(label)"}}
    if task == "multiclass":
        spec["evaluation"]["business"] = {"mean": "avg(CASE WHEN label = prediction THEN 1 ELSE 0 END)"}
    bound = BOUNDS.get(task, {"metric": METRICS[task][0], "at_least": -1.0})
    if task == "multiclass":
        bound = {"metric": "accuracy", "at_least": 0.0}
    spec["gates"] = [{"kind": "bound", "min_rows": 1, **bound}]
    world = World(tmp_path, yaml.safe_dump(spec)).land_all(NEXT, **columns)
    world.services = replace(world.services, reporter=HtmlReporter())
    return world


def page_of(world, night):
    """Return a night's page."""
    return world.store.get(night.report.page).decode()


@pytest.mark.parametrize("task", TASKS)
def test_a_night_says_how_sure_its_figures_are(tmp_path, task):
    """Each metric has an interval that holds it, each difference one over the days that neither has seen; the page draws both models."""
    world = world_of(tmp_path, task)
    assert world.night(NIGHT).outcome == "promoted"
    night = world.night(NEXT)
    found = night.evaluate
    assert {*METRICS[task], "business.mean"} <= set(found.challenger)
    for name, metric in found.case.metrics.items():
        low, high = found.case.intervals[name]
        assert low - 1e-9 <= metric.value <= high + 1e-9, name
    compared = {name for name in found.differences if "[" not in name}
    assert compared == set(found.challenger)
    assert {d.rows for name, d in found.differences.items() if "[" not in name} == {found.common_rows}
    assert f"{METRICS[task][0]}[place=north]" in found.differences
    html = page_of(world, night)
    drawn = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert f"{LOSSES[task][0]} by day" in drawn
    assert f"{world.pipeline().spec.gates[0].metric} by place" in drawn
    assert len(drawn) >= 6
    assert "business.mean" in html
    logged = world.registry.runs[night.train.mlflow_run_id].metrics
    beside = {rival.name: rival for rival in rivals(found.case)}
    assert set(beside) == {"champion", "average", "recent 7", "linear"}
    for name in ("average", "recent 7", "linear"):
        own = logged[f"baseline.{name.replace(' ', '_')}.{LOSSES[task][0]}"]
        assert own == beside[name].own > beside[name].challenger
    assert not any(name.startswith("baseline.champion") for name in logged)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", "quantile"])
def test_a_hold_out_that_tells_nothing_makes_a_night_all_the_same(tmp_path, task):
    """Labels that are all the same on the hold-out leave metrics empty, and there is a page."""
    world = world_of(tmp_path, task)
    for back in range(3):
        world.land(NIGHT - timedelta(days=back), x=np.full(ROWS, -1.0), z=np.zeros(ROWS), y=np.zeros(ROWS, dtype=bool))
    night = world.night(NIGHT)
    if task == "binary":
        assert night.evaluate.challenger["auc"] is None
        assert "auc" not in night.evaluate.case.intervals
    assert "<svg" in page_of(world, night)
