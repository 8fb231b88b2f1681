"""Every kind of gate: total over anything, right at its edges, and never a PASS by accident."""

from __future__ import annotations

import random
from collections import Counter
from math import inf, isfinite, nan

import pytest
from any_case import KINDS, Maker
from hypothesis import given, settings
from hypothesis import strategies as st

from ratchet.domain.case import (
    BaselineDay,
    CaseForPromotion,
    Cost,
    DataHealth,
    DayLoss,
    Level,
    MetricValue,
    MustBeat,
    SharedMetric,
)
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.gates import (
    METRICS,
    AgeGate,
    BaselineGate,
    BaseRateGate,
    BoundGate,
    CalibrationGate,
    ChampionGate,
    CostGate,
    DriftGate,
    HealthGate,
    SliceGapGate,
    SlicesGate,
    StabilityGate,
    in_order,
)
from ratchet.domain.rules import baselines_check
from ratchet.domain.verdict import Verdict, judge

PASS, FAIL, UNDECIDED, NOT_APPLICABLE = Outcome
SMOKE = Check(name="smoke test", outcome=PASS, reason="it gives the evaluated predictions")
AUC = BoundGate(kind="bound", metric="auc", at_least=0.7)
seeds = st.integers(0, 2**32)
PER_CASE = 12  # combinations of gates that each case is judged by


def whole(**given_) -> CaseForPromotion:
    """Return a case with a champion that passes its bound, changed in what the test is about."""
    base = {"metrics": {"auc": MetricValue(value=0.8, rows=1000)}, "champion": True, "smoke": SMOKE}
    return CaseForPromotion(**{**base, **given_})


def told(gate, **given_) -> Check:
    """Return what one gate says."""
    return judge(whole(**given_), (AUC, gate)).checks[1]


def days(differences, rows=100, model=DayLoss, other="champion"):
    """Return days on which the challenger is better by ``differences``."""
    return tuple(
        model(day=f"2024-01-{i + 1:02d}", rows=rows, challenger=0.5 - d, **{other: 0.5})
        for i, d in enumerate(differences)
    )


@settings(max_examples=1000)
@given(seed=seeds)
def test_judge_is_total_over_every_kind_of_gate(seed):
    """Whatever the numbers are, each combination of gates has a verdict with a reason in each check; PASS means that all that apply passed."""
    maker = Maker(seed)
    case = maker.case()
    for _ in range(PER_CASE):
        gates = maker.gates()
        verdict = judge(case, gates)
        assert [c.kind for c in verdict.checks[: len(gates) + 1]] == [*(g.kind for g in gates), "smoke test"]
        assert all(c.reason and c.name for c in verdict.checks)
        assert Verdict.model_validate_json(verdict.model_dump_json()).outcome is verdict.outcome
        passed = [c for c in verdict.checks if c.outcome is PASS]
        assert all(_finite(c) for c in passed if c.kind != "smoke test")
        if verdict.outcome is PASS:
            assert {c.outcome for c in verdict.checks} <= {PASS, NOT_APPLICABLE}
            assert {"smoke test"} < {c.kind for c in passed}
        assert verdict.overridable <= (verdict.outcome is UNDECIDED)
        if verdict.overridable:
            assert "smoke test" in {c.kind for c in passed}
            assert FAIL not in {c.outcome for c in verdict.checks}


def _finite(check: Check) -> bool:
    return all(x is not None and isfinite(x) for x in (check.value, check.limit))


@settings(max_examples=300)
@given(seed=seeds)
def test_one_more_gate_never_turns_a_refusal_into_a_pass(seed):
    """Where a bound is among them, a gate that is added can only take away; and the order of gates does not matter."""
    maker = Maker(seed)
    case = maker.case()
    for _ in range(PER_CASE):
        gates, more = (maker.gate("bound"), *maker.gates(3)), maker.gates(2)
        before, after = judge(case, gates).outcome, judge(case, (*gates, *more)).outcome
        worse = {PASS: {PASS, UNDECIDED, FAIL}, UNDECIDED: {UNDECIDED, FAIL}, FAIL: {FAIL}}
        assert after in worse[before]
        assert judge(case, (*more[::-1], *gates[::-1])).outcome is after


@settings(max_examples=500)
@given(seed=seeds)
def test_a_better_challenger_is_never_refused_where_a_worse_one_passes(seed):
    """A challenger that is better on every row of every day turns no PASS into a FAIL."""
    maker = Maker(seed)
    case, shift = maker.case(), maker.random.uniform(0.001, 0.3)

    def better(told, even):
        return tuple(
            d.model_copy(update={"challenger": d.challenger - shift * (1 if even else maker.random.random())})
            for d in told
        )

    improved = case.model_copy(
        update={
            "metrics": {k: _improved(k, m, shift) for k, m in case.metrics.items()},
            "paired": {k: better(v, even=False) for k, v in case.paired.items()},
            # What is never shown to be worse may be shown to be so when only its best days get better still.
            "slices": {
                c: {v: {k: better(d, even=True) for k, d in by.items()} for v, by in values.items()}
                for c, values in case.slices.items()
            },
            "baselines": {n: {k: better(d, even=False) for k, d in by.items()} for n, by in case.baselines.items()},
        }
    )
    for _ in range(PER_CASE):
        for kind in ("bound", "champion", "slices", "baseline"):
            gate = maker.gate(kind)
            if judge(case, (gate,)).checks[0].outcome is PASS:
                assert judge(improved, (gate,)).checks[0].outcome is not FAIL


def _improved(name: str, metric: MetricValue, shift: float) -> MetricValue:
    if metric.value is None:
        return metric
    return metric.model_copy(update={"value": metric.value + (shift if name.startswith("auc") else -shift)})


@settings(max_examples=300)
@given(seed=seeds)
def test_days_may_come_in_any_order_and_be_told_twice(seed):
    """Shuffled days, and days that are repeated as they were, give the same checks."""
    maker = Maker(seed, nasty=0.0)
    case = maker.case()

    def mixed(told):
        again = [*told, *maker.random.choices(told, k=3)] if told else []
        maker.random.shuffle(again)
        return tuple(again)

    other = case.model_copy(
        update={
            "paired": {k: mixed(v) for k, v in case.paired.items()},
            "slices": {
                c: {v: {k: mixed(d) for k, d in by.items()} for v, by in values.items()}
                for c, values in case.slices.items()
            },
            "baselines": {n: {k: mixed(d) for k, d in by.items()} for n, by in case.baselines.items()},
        }
    )
    for _ in range(PER_CASE):
        gates = maker.gates()
        assert judge(case, gates) == judge(other, gates)


def test_every_outcome_of_every_kind_is_met():
    """The cases above are no straw men: each kind of gate passes and refuses among them."""
    seen = Counter()
    for seed in range(700):
        maker = Maker(seed)
        case = maker.case()
        seen.update((c.kind, c.outcome) for c in judge(case, maker.gates(9)).checks)
    holds = {"stability", "drift", "cost", "health", "age", "evidence"}
    for model in KINDS:
        kind = model.model_fields["kind"].annotation.__args__[0]
        assert seen[kind, UNDECIDED], kind
        assert seen[kind, PASS] or kind == "evidence", kind
        assert bool(seen[kind, FAIL]) is (kind not in holds), kind


@pytest.mark.parametrize(
    ("places", "outcome", "words"),
    [
        ({"JFK": [0.01] * 6, "LGA": [0.02, 0.0, 0.01, 0.03, 0.01, 0.0]}, PASS, "none is shown to be worse"),
        ({"JFK": [0.1] * 6, "LGA": [-0.02, -0.03, -0.01, -0.03, -0.02, -0.02]}, FAIL, "LGA -0.02"),
        ({"JFK": [0.01] * 6, "LGA": [-0.9] * 3}, PASS, "left out, with too little data: LGA"),
        ({"LGA": [-0.9] * 3}, UNDECIDED, "no value has enough data"),
        ({}, UNDECIDED, "no value has enough data"),
        ({"JFK": [nan] * 6, "LGA": [0.1] * 6}, UNDECIDED, "JFK: a daily loss is not a finite number"),
        ({"JFK": [1e308, -1e308] * 3}, UNDECIDED, "too large to compare"),
    ],
)
def test_slices(places, outcome, words):
    """A value that is shown to be worse refuses, whatever the others gain; one with too little data is left out and told."""
    gate = SlicesGate(kind="slices", column="origin", loss="brier")
    found = told(gate, slices={"origin": {value: {"brier": days(d)} for value, d in places.items()}})
    assert found.outcome is outcome
    assert words in found.reason


def test_a_named_value_must_have_data():
    """A value that the gate names holds the promotion when it has too few rows or days, or is not there."""
    gate = SlicesGate(kind="slices", column="origin", loss="brier", values=("JFK",))
    fine = {"LGA": {"brier": days([0.1] * 6)}}
    for jfk in ({}, {"JFK": {"brier": days([0.1] * 4)}}, {"JFK": {"brier": days([0.1] * 6, rows=5)}}):
        found = told(gate, slices={"origin": {**fine, **jfk}})
        assert found.outcome is UNDECIDED
        assert "at least 100 of 5 are needed" in found.reason
    worse = {"origin": {"LGA": {"brier": days([-0.1] * 6)}}}
    assert told(gate, slices=worse).outcome is FAIL


def test_that_nobody_is_worse_can_be_asked_to_be_shown():
    """With ``proven`` a value that may be worse holds the promotion; one that is shown to be worse refuses it as ever."""
    gate = SlicesGate(kind="slices", column="origin", loss="brier", margin=0.02, proven=True)
    noisy = [0.1, -0.1, 0.08, -0.08, 0.1, -0.1]

    def found(*jfk):
        return told(gate, slices={"origin": {"LGA": {"brier": days([0.01] * 6)}, "JFK": {"brier": days(list(jfk))}}})

    open_ = found(*noisy)
    assert open_.outcome is UNDECIDED
    assert "JFK may be worse (+0.00000, at least -" in open_.reason
    shown = found(*[0.0, 0.001] * 3)
    assert shown.outcome is PASS
    assert "each is shown to be no worse, JFK is lowest" in shown.reason
    assert found(*[-0.1, -0.09] * 3).outcome is FAIL


def test_many_slices_are_seldom_called_worse_by_chance():
    """Of slices that are no worse, one among twenty is called worse in about one night of twenty, not in most."""
    rng = random.Random(5)
    gate = SlicesGate(kind="slices", column="origin", loss="brier")
    nights = [{str(v): {"brier": days([rng.gauss(0, 0.01) for _ in range(7)])} for v in range(20)} for _ in range(400)]
    refused = sum(told(gate, slices={"origin": values}).outcome is FAIL for values in nights)
    assert refused / 400 < 0.09


@pytest.mark.parametrize(
    ("metrics", "outcome", "words"),
    [
        ({"A": 0.7, "B": 0.75}, PASS, "0.0500, from A 0.7000 to B 0.7500"),
        ({"A": 0.6, "B": 0.75}, FAIL, "0.1500"),
        ({"A": 0.6}, UNDECIDED, "1 values of origin with 200 rows or more, 2 are needed"),
        ({"A": nan, "B": 0.7}, UNDECIDED, "not a finite number"),
        ({"A": 1e308, "B": -1e308}, UNDECIDED, "inf"),
    ],
)
def test_the_gap_between_slices(metrics, outcome, words):
    """The best and the worst value may lie only so far apart."""
    gate = SliceGapGate(kind="slice_gap", column="origin", metric="auc", at_most=0.1)
    found = told(gate, metrics={f"auc[origin={k}]": MetricValue(value=v, rows=300) for k, v in metrics.items()})
    assert found.outcome is outcome
    assert words in found.reason


def test_the_gap_against_the_champions():
    """The gap may be only so much wider than the champion's; without a champion there is nothing to compare with."""
    gate = SliceGapGate(kind="slice_gap", column="origin", metric="auc", margin=0.05)

    def shared(a, b):
        return {
            "auc[origin=A]": SharedMetric(champion=0.7, challenger=a, rows=300),
            "auc[origin=B]": SharedMetric(champion=0.8, challenger=b, rows=300),
        }

    assert told(gate, shared=shared(0.7, 0.84)).outcome is PASS
    wider = told(gate, shared=shared(0.6, 0.84))
    assert wider.outcome is FAIL
    assert "the champion's is 0.1000" in wider.reason
    assert told(gate, shared={}).outcome is UNDECIDED
    assert told(gate, champion=False, shared={}).outcome is NOT_APPLICABLE
    both = gate.model_copy(update={"at_most": 0.5})
    metrics = {f"auc[origin={k}]": MetricValue(value=0.7, rows=300) for k in "AB"}
    assert told(both, champion=False, metrics=metrics).outcome is PASS
    assert told(both, metrics=metrics, shared=shared(0.6, 0.84)).outcome is FAIL
    assert told(both, metrics=metrics, champion_problem="gone").outcome is UNDECIDED


@pytest.mark.parametrize(
    ("average", "recent", "outcome", "words"),
    [
        ([0.02, 0.03, 0.01, 0.02, 0.02], [0.02, 0.03, 0.01, 0.02, 0.02], PASS, "average minus challenger +0.02000"),
        ([0.02, 0.03, 0.01, 0.02, 0.02], [-0.02, -0.03, -0.01, -0.02, -0.02], FAIL, "recent minus challenger -0.02000"),
        ([0.2, -0.2, 0.1, -0.1, 0.0], [0.02, 0.03, 0.01, 0.02, 0.02], UNDECIDED, "average minus challenger"),
        ([0.02, 0.03, 0.01, 0.02, 0.02], [], UNDECIDED, "recent: 0 days, 5 are needed"),
        ([0.02, nan, 0.01, 0.02, 0.02], [0.02, 0.03, 0.01, 0.02, 0.02], UNDECIDED, "average: a daily loss is not"),
    ],
)
def test_baselines(average, recent, outcome, words):
    """Each baseline must be beaten, by the interval over days; one that is not refuses."""
    sides = {"average": average, "recent 7": recent}
    baselines = {n: {"brier": days(d, model=BaselineDay, other="baseline")} for n, d in sides.items()}
    found = told(BaselineGate(kind="baseline", loss="brier"), baselines=baselines, champion=False)
    assert found.outcome is outcome
    assert words in found.reason


@pytest.mark.parametrize(
    ("linear", "outcome", "words"),
    [
        ([0.02] * 7, Outcome.PASS, "linear minus challenger +0.02000 over 7 days"),
        ([0.5, -0.2, -0.1, -0.1, -0.05], Outcome.PASS, "linear minus challenger +0.01000"),  # by the mean alone
        ([-0.02, -0.03, -0.02, -0.01, -0.02], Outcome.FAIL, "it is better"),
        ([-0.02, 0.01, -0.03, 0.02, 0.01], Outcome.UNDECIDED, "not beaten, nor shown to be better"),
        ([-0.02] * 4, Outcome.UNDECIDED, "not beaten"),  # too few days to fail by
        ([0.0] * 7, Outcome.UNDECIDED, "not beaten"),  # as good as is not better
        ([nan] * 7, Outcome.UNDECIDED, "not a finite number"),
        ([1e308] * 7, Outcome.UNDECIDED, "too large"),
        (None, Outcome.UNDECIDED, "nothing to learn it from"),
    ],
)
def test_every_baseline_must_be_beaten_whatever_the_gates_are(linear, outcome, words):
    """Below each baseline's mean passes; what days show to be worse than one fails; what is open, or unknown, holds."""
    sides = {"average": [0.1] * 7, "linear": linear}
    baselines = {n: {"brier": days(d, model=BaselineDay, other="baseline")} for n, d in sides.items() if d is not None}
    asked = MustBeat(loss="brier", baselines=("average", "linear"))
    case = CaseForPromotion(metrics={}, champion=False, baselines=baselines, must_beat=asked)
    found = baselines_check(case)
    assert found
    assert (found.outcome, words in found.reason) == (outcome, True), found.reason
    assert found.name == "brier better than that of average, linear"


def test_a_model_that_beats_no_baseline_is_refused_by_the_verdict():
    """It fails, is open, or passes with the check; a person may go around what is open, and older records ask for nothing."""
    asked = MustBeat(loss="brier", baselines=("average",))
    for differences, outcome in (([0.02] * 7, PASS), ([-0.02] * 7, FAIL), ([-0.02] * 3, UNDECIDED)):
        average = {"average": {"brier": days(differences, model=BaselineDay, other="baseline")}}
        verdict = judge(whole(baselines=average, must_beat=asked), (AUC,))
        assert (verdict.outcome, verdict.overridable) == (outcome, outcome is UNDECIDED)
        assert [c.outcome for c in verdict.checks if c.kind == "baselines"] == [outcome]
        assert judge(whole(baselines=average), (AUC,)).outcome is PASS


def test_a_margin_over_the_baseline():
    """By how much the baseline must be beaten is asked of the whole interval."""
    gate = BaselineGate(kind="baseline", loss="brier", baselines=("linear",), margin=0.05)
    for gain, outcome in ((0.06, PASS), (0.04, FAIL)):
        linear = days([gain] * 6, model=BaselineDay, other="baseline")
        assert told(gate, baselines={"linear": {"brier": linear}}).outcome is outcome


def level(predicted=0.2, observed=0.2, training=0.2, **given_):
    """Return a level of the hold-out."""
    return Level(
        **{"predicted": predicted, "observed": observed, "training": training, "spread": 0.4, "rows": 1000, "events": 200, **given_}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "calibration", "base_rate"),
    [
        (level(), PASS, PASS),
        (level(observed=0.25), PASS, PASS),
        (level(observed=0.26), FAIL, PASS),
        (level(predicted=0.42, observed=0.42), PASS, FAIL),
        (level(predicted=nan), FAIL, FAIL),
        (level(observed=0.0, events=0), UNDECIDED, PASS),
        (level(observed=-0.1), UNDECIDED, PASS),
        (level(training=0.0), PASS, UNDECIDED),
        (level(events=29), UNDECIDED, PASS),
        (level(rows=99), UNDECIDED, UNDECIDED),
        (level(10.0, 10.05, 10.0, continuous=True), PASS, PASS),
        (level(10.0, 10.11, 10.0, continuous=True), FAIL, PASS),
        (level(10.3, 10.25, 10.0, continuous=True), PASS, FAIL),
        (level(10.0, 10.0, 10.0, continuous=True, spread=0.0), UNDECIDED, UNDECIDED),
        (level(-1.0, -1.0, -1.0, continuous=True), PASS, PASS),
    ],
)
def test_calibration_and_base_rate(found, calibration, base_rate):
    """Mean predictions are held against what came, and against training; nothing is divided by zero or less."""
    assert told(CalibrationGate(kind="calibration"), levels={"": found}).outcome is calibration
    assert told(BaseRateGate(kind="base_rate"), levels={"": found}).outcome is base_rate


def of_quantile(quantile, below, predicted=10.0, training=10.0, **given_):
    """Return a quantile's level of the hold-out."""
    return level(predicted, 10.0, training, continuous=True, quantile=quantile, below=below, **given_)


@pytest.mark.parametrize(
    ("quantile", "below", "outcome"),
    [
        (0.5, 0.5, PASS),
        (0.5, 0.62, PASS),
        (0.5, 0.37, FAIL),
        (0.9, 0.97, PASS),
        (0.9, 0.98, FAIL),
        (0.9, 0.82, FAIL),
        (0.1, 0.0, FAIL),
        (0.5, None, UNDECIDED),
        (0.5, nan, UNDECIDED),
        (1.0, 1.0, UNDECIDED),
    ],
)
def test_as_many_labels_lie_below_a_quantile_as_it_says(quantile, below, outcome):
    """The share of labels at or below a quantile is held to it, the outer ones more closely than the median."""
    found = told(CalibrationGate(kind="calibration"), levels={"0.5": of_quantile(quantile, below)})
    assert found.outcome is outcome


def test_of_quantiles_only_the_middle_one_has_a_base_rate():
    """How high the outer quantiles are depends on the features; the one nearest to the median must be plausible."""
    gate, far = BaseRateGate(kind="base_rate"), of_quantile(0.9, 0.9, predicted=30.0)
    assert told(gate, levels={"0.4": of_quantile(0.4, 0.4), "0.9": far}).outcome is PASS
    shifted = told(gate, levels={"0.4": of_quantile(0.4, 0.4, predicted=30.0), "0.9": of_quantile(0.9, 0.9)})
    assert shifted.outcome is FAIL
    assert shifted.reason.startswith("0.4: ")


def test_few_rows_leave_quantiles_undecided():
    """A share over a handful of rows says nothing."""
    assert (
        told(CalibrationGate(kind="calibration"), levels={"0.5": of_quantile(0.5, 0.5, rows=99)}).outcome is UNDECIDED
    )


def test_each_class_is_calibrated():
    """One class out of bounds refuses; a class with few rows is left out and told."""
    gate = CalibrationGate(kind="calibration")
    assert told(gate, levels={"a": level(), "b": level(observed=0.5)}).reason.startswith("b: ")
    rare = told(gate, levels={"a": level(), "b": level(observed=0.5, events=3)})
    assert rare.outcome is PASS
    assert "left out, with fewer rows than min_events: b" in rare.reason
    assert told(gate, levels={"b": level(events=3)}).outcome is UNDECIDED
    assert told(gate, levels={}).outcome is UNDECIDED


@pytest.mark.parametrize(
    ("share", "rows", "outcome"),
    [(0.1, 100, PASS), (0.11, 100, UNDECIDED), (0.0, 99, UNDECIDED), (None, 100, UNDECIDED), (nan, 100, UNDECIDED), (-1.0, 100, UNDECIDED)],
)  # fmt: skip
def test_flips_are_for_a_person(share, rows, outcome):
    """More flips than the bound hold the promotion; a person may let it through."""
    gate = StabilityGate(kind="stability")
    verdict = judge(whole(flips={gate.key: MetricValue(value=share, rows=rows)}), (AUC, gate))
    assert verdict.outcome is outcome
    assert verdict.overridable is (outcome is UNDECIDED)


def test_flips_at_another_threshold_are_not_these():
    """A share that was computed at one threshold says nothing of another."""
    gate = StabilityGate(kind="stability", threshold=0.3)
    assert (
        told(gate, flips={StabilityGate(kind="stability").key: MetricValue(value=0.0, rows=500)}).outcome is UNDECIDED
    )


def test_drift():
    """The feature that moved most is told; one that is ignored may move; one that is named must be there."""
    moved = {"x": MetricValue(value=0.1, rows=500), "month": MetricValue(value=9.0, rows=500)}
    gate = DriftGate(kind="drift")
    found = told(gate, drift=moved)
    assert (found.outcome, found.value, found.limit) == (UNDECIDED, 9.0, 0.25)
    assert told(gate.model_copy(update={"ignore": ("month",)}), drift=moved).outcome is PASS
    assert told(gate.model_copy(update={"features": ("x",)}), drift=moved).outcome is PASS
    assert "drift of y could not be computed" in told(gate.model_copy(update={"features": ("y",)}), drift=moved).reason
    assert told(gate, drift={}).outcome is UNDECIDED
    assert told(gate, drift={"x": MetricValue(value=0.1, rows=3)}).outcome is UNDECIDED
    predictions = gate.model_copy(update={"features": ("x",), "predictions_at_most": 0.2})
    assert told(predictions, drift=moved).outcome is UNDECIDED
    assert told(predictions, drift=moved, prediction_drift=MetricValue(value=0.1, rows=500)).outcome is PASS


@pytest.mark.parametrize(
    ("cost", "outcome", "words"),
    [
        (Cost(artifact_mib=1.0, latency_ms=5.0, memory_mib=200.0), PASS, "1 MiB of artifact; 5 ms for 1,000 rows"),
        (Cost(artifact_mib=1.0, latency_ms=11.0, memory_mib=200.0), UNDECIDED, "11 ms for 1,000 rows"),
        (Cost(artifact_mib=nan, latency_ms=5.0, memory_mib=200.0), UNDECIDED, "nan MiB of artifact"),
        (Cost(artifact_mib=-1.0, latency_ms=5.0, memory_mib=200.0), UNDECIDED, "-1 MiB of artifact"),
        (None, UNDECIDED, "was not measured"),
    ],
)
def test_cost(cost, outcome, words):
    """Each bound that is given must hold; the others are not looked at."""
    found = told(CostGate(kind="cost", artifact_mib=2.0, latency_ms=10.0), cost=cost)
    assert found.outcome is outcome
    assert words in found.reason


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        ({}, PASS, "0 of 90 days quarantined"),
        ({"quarantined": 5}, UNDECIDED, "5 of 90 days quarantined"),
        ({"unlabelled": 600}, UNDECIDED, "600 of 1000 rows unlabelled"),
        ({"newest_rows": 40}, UNDECIDED, "40 labelled rows of the newest day, 100 of the median day"),
        ({"newest_rows": 201}, UNDECIDED, "201 labelled rows"),
        ({"warnings": 4}, UNDECIDED, "4 warnings"),
        ({"usual_rows": 0.0}, UNDECIDED, "0 of the median day"),
        ({"usual_rows": inf}, UNDECIDED, "inf of the median day"),
        ({"partitions": 0}, UNDECIDED, "0 of 0 days quarantined"),
        ({"quarantined": -1}, UNDECIDED, "a count is negative"),
        ({"rows": 10**400, "unlabelled": 10**400}, UNDECIDED, "unlabelled"),
        ({"warnings": 10**400}, UNDECIDED, "warnings"),
    ],
)
def test_health(change, outcome, words):
    """Data in bad health holds the promotion and says what is wrong with it."""
    fine = {"partitions": 90, "quarantined": 0, "warnings": 3, "rows": 1000, "unlabelled": 10, "newest_rows": 90, "usual_rows": 100.0}  # fmt: skip
    found = told(HealthGate(kind="health", warnings_at_most=3), health=DataHealth(**{**fine, **change}))
    assert found.outcome is outcome
    assert words in found.reason
    assert told(HealthGate(kind="health")).outcome is UNDECIDED


@pytest.mark.parametrize(
    ("served", "outcome"), [(7, PASS), (6, UNDECIDED), (-3, UNDECIDED), (None, UNDECIDED), (10**400, UNDECIDED)]
)
def test_age(served, outcome):
    """A champion that has not served long enough stays; what is not known, or no number of days, holds."""
    assert told(AgeGate(kind="age"), served_days=served).outcome is outcome
    assert told(AgeGate(kind="age"), served_days=served, champion=False).outcome is NOT_APPLICABLE


@pytest.mark.parametrize(
    "gate",
    [
        ChampionGate(kind="champion", loss="brier"),
        SlicesGate(kind="slices", column="origin", loss="brier"),
        SlicesGate(kind="slices", column="origin", loss="brier", margin=0.05, proven=True),
        StabilityGate(kind="stability"),
    ],
)
def test_comparisons_need_a_champion(gate):
    """Without a champion a comparison does not apply; with one that cannot be scored it is open."""
    assert told(gate, champion=False).outcome is NOT_APPLICABLE
    gone = told(gate, champion_problem="its artifact is gone")
    assert gone.outcome is UNDECIDED
    assert "its artifact is gone" in gone.reason


@pytest.mark.parametrize(
    ("smoke", "auc", "overridable"),
    [
        (SMOKE, 0.8, True),
        (SMOKE, 0.1, False),
        (None, 0.8, False),
        (SMOKE.model_copy(update={"outcome": FAIL}), 0.8, False),
        (SMOKE.model_copy(update={"outcome": NOT_APPLICABLE}), 0.8, False),
    ],
)
def test_what_a_person_may_override(smoke, auc, overridable):
    """An UNDECIDED may be overridden where nothing failed and the registered artifact was tried and is right."""
    case = whole(metrics={"auc": MetricValue(value=auc, rows=1000)}, smoke=smoke, served_days=1)
    assert judge(case, (AUC, AgeGate(kind="age"))).overridable is overridable
    assert not judge(whole(), (AUC,)).overridable


@pytest.mark.parametrize("task", list(METRICS))
def test_metrics_come_back_in_the_order_of_their_own_task(task) -> None:
    """Tasks share names (precision, mae), and each has its own order: what says most of a model comes first."""
    names = METRICS[task]
    assert tuple(in_order(dict.fromkeys(sorted(names), 0.5))) == names


def test_metrics_come_back_in_order() -> None:
    """A record that a database has kept by the length of its keys shows the first metric of its task first, and its owner's last."""
    found = in_order({"f1": 0.0, "auc": 0.7, "brier": None, "business.cost": 3.0, "log_loss": 0.5})
    assert list(found.items()) == [
        ("auc", 0.7),
        ("log_loss", 0.5),
        ("brier", None),
        ("f1", 0.0),
        ("business.cost", 3.0),
    ]
