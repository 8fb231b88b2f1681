"""Whole nights under each kind of gate: what evaluate measures, and what is refused for it."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import yaml
from small_world import FIRST, NIGHT, ROWS, SPEC, World, partition

from ratchet.domain.night import EvaluateResult
from ratchet.domain.rivals import rivals

NEXT = NIGHT + timedelta(days=1)
STEP = "(x > 0) <> (id % 10 = 0)"  # which no regression draws; one row in ten is otherwise
WEAK = {"training__rounds": 1, "training__params__eta": 0.01, "evaluation__baselines": ["average"]}
BOUND = {"kind": "bound", "metric": "auc", "at_least": 0.0, "min_rows": 1}
FIT_AND_STOP = 5  # days of the window before the hold-out


def gate(night, kind):
    """Return the check of a kind."""
    return next(c for c in night.gate.verdict.checks if c.kind == kind)


def usual(spec):
    """Return a spec that leaves to the default what must be beaten."""
    return yaml.safe_dump(yaml.safe_load(spec) | {"evaluation": {"slices": ["place"]}})


MANY = 200  # rows of a day, so that three days of hold-out say something


def told(day, *, south_flipped=False, flipped=0.0):
    """Return a day on which x tells y; a tenth of its rows are from the south."""
    rng = np.random.default_rng(day.toordinal())
    x, south = rng.normal(size=MANY), np.arange(MANY) % 10 == 0
    y = (x > 0) ^ (np.abs(rng.normal(size=MANY)) > 1.96)
    y ^= (south & south_flipped) | (rng.random(MANY) < flipped)
    return partition(day, MANY, x=x, place=np.where(south, "south", "north"), y=y)


def reign(world, **training):
    """Let a champion come to power, on clean days, through a bound alone."""
    gates = yaml.safe_load(world.spec)["gates"]
    world.gated(BOUND)
    for i in range(8):
        world.land(FIRST + timedelta(days=i), told(FIRST + timedelta(days=i)))
    assert world.night(pipeline=world.pipeline(**training)).outcome == "promoted"
    world.gated(*gates)


def spoil(world, **how):
    """Land the days that the next challenger learns from anew, spoilt; its hold-out is clean."""
    for i in range(1, 9):
        day = FIRST + timedelta(days=i)
        world.land(day, told(day, **(how if i <= FIT_AND_STOP else {})))


def test_a_slice_that_gets_worse_is_refused_though_the_average_gets_better(tmp_path):
    """The champion gate lets the challenger pass; the slices gate names the place at whose cost it is better, and refuses."""
    world = World(tmp_path)
    better = {"kind": "champion", "loss": "log_loss", "confidence": 0.9, "min_days": 2}
    slices = {"kind": "slices", "column": "place", "loss": "log_loss", "confidence": 0.9, "min_days": 2, "min_rows": 50}
    world.gated(BOUND, better, slices)
    reign(world, **WEAK)
    spoil(world, south_flipped=True)
    night = world.night(NEXT)
    assert gate(night, "champion").outcome == "PASS"
    assert gate(night, "slices").outcome == "FAIL"
    assert "champion minus challenger of south -" in gate(night, "slices").reason
    assert night.outcome == "refused"
    assert not night.gate.verdict.overridable
    world.gated(BOUND, better)
    assert world.night(NEXT).outcome == "promoted"


def test_a_challenger_that_learnt_from_flipped_labels_is_refused(tmp_path):
    """Three labels of ten are wrong in what the challenger learns from: it is worse than the champion, and refused."""
    world = World(tmp_path)
    world.gated(BOUND, {"kind": "champion", "loss": "log_loss", "confidence": 0.95, "min_days": 3})
    reign(world)
    spoil(world, flipped=0.3)
    night = world.night(NEXT)
    assert night.outcome == "refused"
    assert gate(night, "champion").value < -0.05
    assert world.champion == 1


@pytest.mark.parametrize("baseline", ["average", "recent", "linear"])
def test_a_model_that_does_not_beat_a_baseline_is_refused(tmp_path, baseline):
    """Where nothing can be learnt the first model is refused, although its bound lets it pass; where something can, it is promoted."""
    world = World(tmp_path)
    beaten = {
        "kind": "baseline",
        "loss": "log_loss",
        "baselines": [baseline],
        "recent_days": 3,
        "margin": 0.02,
        "min_days": 3,
    }
    world.gated(BOUND, {**beaten, "confidence": 0.6})
    for i in range(8):
        day = FIRST + timedelta(days=i)
        world.land(day, y=np.random.default_rng(i).random(ROWS) > 0.5)
    night = world.night()
    assert night.outcome == "refused"
    assert f"{baseline} minus challenger" in gate(night, "baseline").reason
    stepped = yaml.safe_load(SPEC) | {"target": {"task": "binary", "sql": STEP}}
    other = World(tmp_path / "other", yaml.safe_dump(stepped)).land_all()
    other.gated(BOUND, {**beaten, "confidence": 0.6})
    assert other.night().outcome == "promoted"


def test_whatever_the_gates_are_a_model_that_beats_no_baseline_is_not_promoted(tmp_path):
    """A spec of one wide bound: where nothing can be learnt, what needs no model is as good, and the night says which it is."""
    world = World(tmp_path, usual(SPEC))
    world.gated(BOUND)
    for i in range(8):
        world.land(FIRST + timedelta(days=i), y=np.random.default_rng(i).random(ROWS) > 0.5)
    night = world.night()
    check = gate(night, "baselines")
    assert (night.outcome, check.outcome, world.champion) == ("undecided", "UNDECIDED", None)  # three days do not fail
    assert check.name == "log_loss better than that of average, recent 7, linear"
    assert "minus challenger -" in check.reason
    assert {r.name: (r.loss, r.days, r.must) for r in rivals(night.evaluate.case)} == dict.fromkeys(
        ("average", "recent 7", "linear"), ("log_loss", 3, True)
    )


def test_a_regression_that_is_better_refuses_a_booster_unless_the_spec_leaves_it_out(tmp_path):
    """Where the label is linear in the features so is the best model; who does not ask for more is still shown it."""
    world = World(tmp_path, usual(SPEC))
    world.gated({"kind": "bound", "metric": "mae", "at_most": 100.0, "min_rows": 1})
    world.spec = yaml.safe_dump(yaml.safe_load(world.spec) | {"target": {"task": "regression", "sql": "x + z / 9"}})
    world.land_all()
    check = gate(world.night(), "baselines")
    assert check.outcome != "PASS"
    assert "linear minus challenger -" in check.reason
    assert "average" not in check.reason
    spec = yaml.safe_load(world.spec)
    world.spec = yaml.safe_dump(spec | {"evaluation": spec["evaluation"] | {"baselines": ["average", "recent"]}})
    night = world.night()
    assert night.outcome == "promoted", night.reasons
    assert {r.name: r.must for r in rivals(night.evaluate.case)} == {"average": True, "recent 7": True, "linear": False}


def test_the_champion_is_shown_beside_the_baselines(reigning):
    """On the second night yesterday's champion stands first among those that the challenger is compared with."""
    reigning.land(NEXT)
    case = reigning.night(NEXT).evaluate.case
    found = rivals(case)
    assert [r.name for r in found] == ["champion", "average", "recent 7", "linear"]
    days = case.paired["log_loss"]
    assert found[0].gain == pytest.approx(sum(d.champion - d.challenger for d in days) / len(days))
    assert not found[0].must
    assert rivals(case.model_copy(update={"must_beat": None, "baselines": {}})) == ()  # a record of before


EVERY = [
    {"kind": "slice_gap", "column": "place", "at_most": 1000.0, "margin": 1000.0, "min_rows": 1},
    {"kind": "calibration", "at_least": 0.01, "at_most": 100.0, "bias": 100.0, "min_events": 1},
    {"kind": "base_rate", "at_least": 0.01, "at_most": 100.0, "bias": 100.0},
    {"kind": "stability", "at_most": 1.0},
    {"kind": "drift", "at_most": 10.0, "predictions_at_most": 10.0},
    {"kind": "cost", "artifact_mib": 10.0, "latency_ms": 1000.0, "memory_mib": 4000.0},
    {"kind": "health"},
    {"kind": "age", "min_days": 1},
]  # with bounds that hold


@pytest.mark.parametrize(
    ("task", "sql", "loss", "metric"),
    [
        ("binary", STEP, "brier", "brier"),
        ("multiclass", f"CASE WHEN x > 0.7 THEN 'high' WHEN {STEP} THEN 'middle' ELSE 'low' END", "brier", "brier"),
        ("regression", "abs(x) + z / 9", "absolute_error", "mae"),
    ],
)
def test_every_kind_of_gate_over_every_task(tmp_path, task, sql, loss, metric):
    """Each task has numbers for each gate: those that need no champion pass on the first night, all of them on the next."""
    spec = yaml.safe_load(SPEC)
    spec["target"] = {"task": task, "sql": sql}
    spec["evaluation"]["baselines"] = ["average"]  # six rounds of so few rows are not always ahead of a regression
    compared = {"loss": loss, "min_days": 2, "confidence": 0.51}
    spec["gates"] = [
        {"kind": "bound", "metric": metric, "at_most": 100.0, "min_rows": 1},
        {"kind": "champion", "margin": 100.0, **compared},
        {"kind": "slices", "column": "place", "margin": 100.0, "min_rows": 1, **compared},
        {"kind": "baseline", "baselines": ["average", "recent", "linear"], "recent_days": 3, **compared},
        *[{**g, "metric": metric} if g["kind"] == "slice_gap" else g for g in EVERY],
    ]
    world = World(tmp_path, yaml.safe_dump(spec)).land_all()
    first = world.night()
    checks = {c.kind: c for c in first.gate.verdict.checks}
    assert {k for k, c in checks.items() if c.outcome == "NOT_APPLICABLE"} == {"champion", "slices", "stability", "age"}
    assert {k for k, c in checks.items() if c.outcome not in {"NOT_APPLICABLE", "PASS"}} == set()
    assert first.outcome == "promoted"
    spec["gates"] = [g for g in spec["gates"] if g["kind"] != "baseline"]
    world.spec = yaml.safe_dump(spec)
    world.land(NEXT)
    night = world.night(NEXT)
    assert night.outcome == "promoted", night.reasons
    case = night.evaluate.case
    assert set(first.evaluate.case.baselines) == {"average", "recent 3", "recent 7", "linear"}
    assert set(case.drift) == {"x", "z", "place"}
    assert f"gain.{loss}" in case.intervals
    low, high = case.intervals[metric]
    assert low <= case.metrics[metric].value <= high
    compared = night.evaluate.differences
    assert set(compared) == {n for n in case.metrics if not n.startswith("business.")}
    assert all(d.champion is None or d.low <= d.high for d in compared.values() if d.low is not None)
    assert compared[metric].rows == night.evaluate.common_rows
    assert compared[metric].challenger - compared[metric].champion == pytest.approx(compared[metric].difference)
    assert EvaluateResult.model_validate_json(night.evaluate.model_dump_json()) == night.evaluate


def test_nothing_is_measured_that_no_gate_asks_for(world):
    """A night without such gates has no drift, slices or flips in its case, and baselines by no other loss than it compares by."""
    case = world.night().evaluate.case
    assert (case.drift, case.prediction_drift, case.slices, case.shared, case.flips) == ({}, None, {}, {}, {})
    assert set(case.baselines) == {"average", "recent 7", "linear"}
    assert all(set(losses) == {"log_loss"} for losses in case.baselines.values())
    assert case.served_days is None
    assert case.levels[""].events == round(case.levels[""].observed * case.levels[""].rows)
    assert {"auc", "log_loss", "precision", "auc[place=north]"} < set(case.intervals) == set(case.metrics)


def test_a_young_champion_stays(world):
    """Before its time a champion is not displaced, and a person may see it otherwise."""
    world.gated(BOUND, {"kind": "age", "min_days": 2})
    assert world.night().outcome == "promoted"
    for days, outcome in ((1, "undecided"), (2, "promoted")):
        world.land(NIGHT + timedelta(days=days))
        night = world.night(NIGHT + timedelta(days=days))
        assert night.outcome == outcome
        assert night.evaluate.case.served_days == days
    assert [e.champion.cutoff for e in world.entries] == [NIGHT, NIGHT + timedelta(days=2)]


def test_data_in_bad_health_holds(world):
    """A quarantined day and a day that is nearly empty hold the promotion, each told."""
    world.gated(BOUND, {"kind": "health"})
    world.land(FIRST + timedelta(days=1), x=np.full(ROWS, 99.0))
    world.land(NIGHT, partition(NIGHT, 5))
    night = world.night()
    assert night.outcome == "undecided"
    assert "1 of 8 days quarantined" in night.reasons[0]
    assert "5 labelled rows of the newest day, 40 of the median day" in night.reasons[0]
    assert night.gate.verdict.overridable


def test_a_feature_that_moved_holds(world):
    """A hold-out that looks like nothing in training holds the promotion and names the feature; ignored, it passes."""
    for i in range(3):
        world.land(NIGHT - timedelta(days=i), z=np.random.default_rng(i).normal(size=ROWS) + 3)
    world.gated(BOUND, {"kind": "drift", "at_most": 0.5})
    night = world.night()
    assert night.outcome == "undecided"
    assert "z " in gate(night, "drift").reason
    assert gate(night, "drift").value > 2
    world.gated(BOUND, {"kind": "drift", "at_most": 0.5, "ignore": ["z"]})
    assert world.night().outcome == "promoted"


def test_what_scoring_costs_is_judged(world):
    """The cost that the smoke test measured reaches the gate."""
    world.gated(BOUND, {"kind": "cost", "latency_ms": 1.0})
    night = world.night()
    assert night.outcome == "undecided"
    assert gate(night, "cost").reason == "1.5 ms for 1,000 rows"
