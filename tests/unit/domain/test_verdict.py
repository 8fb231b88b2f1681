"""The verdict: total, complete, and never a PASS by accident."""

from __future__ import annotations

from datetime import date
from math import inf, isfinite, nan

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from ratchet.domain.case import CaseForPromotion, DayLoss, MetricValue
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.evidence import Member, Shadow, Trial
from ratchet.domain.gates import BoundGate, ChampionGate, EvidenceGate
from ratchet.domain.models import ModelVersion
from ratchet.domain.statistics import Evidence
from ratchet.domain.verdict import judge

AUC = BoundGate(kind="bound", metric="auc", at_least=0.7)
NO_WORSE = ChampionGate(kind="champion", loss="log_loss")
PROVED = EvidenceGate(kind="evidence", loss="log_loss")
SMOKE = Check(name="smoke test", outcome=Outcome.PASS, reason="it gives the evaluated predictions")

SHADOW = Shadow(
    version=ModelVersion(
        version=2,
        run_key="two",
        mlflow_run_id="run-2",
        artifact_digest="2",
        seen_through=date(2024, 1, 1),
        cutoff=date(2024, 1, 2),
    ),
    sound=True,
    days={f"2024-01-0{i}": {"log_loss": 0.5} for i in (3, 4, 5)},
)

any_float = st.floats(allow_nan=True, allow_infinity=True)
counts = st.one_of(st.integers(-5, 500), st.integers(-(10**30), 10**30))
names = st.sampled_from(["auc", "log_loss", "auc[origin=JFK]", "brier"])
days = st.dates().map(str)
losses = st.sampled_from(["log_loss", "brier", "squared_error"])

gates = st.one_of(
    st.builds(
        lambda metric, where, bound, least, rows: BoundGate.model_construct(
            kind="bound",
            metric=metric,
            slice=where,
            at_least=bound if least else None,
            at_most=None if least else bound,
            min_rows=rows,
        ),
        st.sampled_from(["auc", "log_loss"]),
        st.sampled_from([None, "origin=JFK"]),
        any_float,
        st.booleans(),
        st.integers(1, 10**9),
    ),
    st.builds(
        lambda loss, margin, confidence, n: ChampionGate.model_construct(
            kind="champion", loss=loss, margin=margin, confidence=confidence, min_days=n
        ),
        losses,
        any_float,
        st.floats(0.5, 1, exclude_min=True, exclude_max=True),
        st.integers(2, 40),
    ),
    st.builds(
        lambda loss, margin, alpha, n, shadow, lane, fleet, share: EvidenceGate.model_construct(
            kind="evidence",
            loss=loss,
            margin=margin,
            wrong_promotions_per_quarter=alpha,
            min_days=n,
            shadow_nights=shadow,
            lane=lane,
            fleet=fleet,
            false_share=share,
        ),
        losses,
        any_float,
        st.floats(0, 1, exclude_min=True, exclude_max=True),
        st.integers(1, 40),
        st.integers(1, 4),
        st.sampled_from(["auto", "prove"]),
        st.sampled_from([None, "shops"]),
        st.floats(0, 1, exclude_min=True, exclude_max=True),
    ),
)
day_losses = st.builds(DayLoss, day=days, rows=counts, champion=any_float, challenger=any_float)
evidence = st.builds(
    Evidence, day=days, rows=counts, champion=counts, challenger=counts, difference=any_float, scale=any_float
)
shadows = st.builds(
    Shadow,
    version=st.integers(2, 4).map(lambda number: SHADOW.version.model_copy(update={"version": number})),
    sound=st.booleans(),
    days=st.dictionaries(days, st.dictionaries(losses, any_float, max_size=2), max_size=4),
)
trials = st.builds(
    Trial,
    lane=st.sampled_from(["recipe", "refresh"]),
    certified_by=st.none() | st.integers(1, 9),
    evidence=st.dictionaries(losses, st.lists(evidence, max_size=12).map(tuple)),
    without=st.lists(st.text(max_size=9), max_size=4).map(tuple),
    shadows=st.lists(shadows, max_size=9).map(tuple),
    fleets=st.dictionaries(
        st.just("shops"),
        st.lists(
            st.builds(Member, pipeline=st.text(max_size=3), cutoff=st.dates(), evidence=st.none() | any_float),
            max_size=5,
        ).map(tuple),
    ),
    cutoff=st.dates(),
)
checks = st.builds(
    Check,
    name=st.just("smoke test"),
    outcome=st.sampled_from(Outcome),
    reason=st.text(max_size=9),
    value=st.none() | any_float,
)
cases = st.builds(
    CaseForPromotion,
    metrics=st.dictionaries(names, st.builds(MetricValue, value=st.none() | any_float, rows=counts)),
    champion=st.booleans(),
    champion_problem=st.none() | st.text(max_size=9),
    paired=st.dictionaries(losses, st.lists(day_losses, max_size=12).map(tuple)),
    trial=st.none() | trials,
    smoke=st.none() | checks,
)


def case(**given_) -> CaseForPromotion:
    """Return a case that passes, changed in what the test is about."""
    whole = {"metrics": {"auc": MetricValue(value=0.8, rows=1000)}, "champion": False, "smoke": SMOKE}
    return CaseForPromotion(**{**whole, **given_})


def paired(differences, rows=100):
    """Return hold-out days on which the challenger is better by ``differences``."""
    return {
        "log_loss": tuple(
            DayLoss(day=f"2024-01-{i + 1:02d}", rows=rows, champion=0.5, challenger=0.5 - d)
            for i, d in enumerate(differences)
        )
    }


def trial(differences, scale=0.01):
    """Return the trial of a recipe by its daily differences, of which one challenger has shadowed for three days."""
    made = (
        Evidence(
            day=f"2024-{i // 28 + 1:02d}-{i % 28 + 1:02d}",
            rows=100,
            champion=1,
            challenger=2,
            difference=d,
            scale=scale,
        )
        for i, d in enumerate(differences)
    )
    return Trial(lane="recipe", evidence={"log_loss": tuple(made)}, shadows=(SHADOW,))


@given(case=cases, gates=st.lists(gates, max_size=4).map(tuple))
def test_judge_is_total_and_passes_only_what_passed(case, gates):
    """Whatever it is given, judge returns a verdict with every gate in it, and PASS means that everything that applies passed."""
    verdict = judge(case, gates)
    assert verdict.outcome in {Outcome.PASS, Outcome.FAIL, Outcome.UNDECIDED}
    assert len(verdict.checks) >= len(gates) + 1
    assert all(check.reason or check.name == "smoke test" for check in verdict.checks)
    if verdict.outcome is Outcome.PASS:
        assert {c.outcome for c in verdict.checks} <= {Outcome.PASS, Outcome.NOT_APPLICABLE}
        assert case.smoke
        assert case.smoke.outcome is Outcome.PASS
        passed = [c for c in verdict.checks[: len(gates)] if c.outcome is Outcome.PASS]
        assert passed
        certified = "refreshing is certified by ledger entry"
        bound = [c for c in passed if c.kind != "evidence" or not c.reason.startswith(certified)]
        assert all(
            c.value is not None and isfinite(c.value) and c.limit is not None and isfinite(c.limit) for c in bound
        )
        assert case.champion is not verdict.bootstrap


@given(case=cases, gates=st.lists(gates, min_size=1, max_size=4).map(tuple))
def test_one_more_gate_never_turns_a_refusal_into_a_pass(case, gates):
    """Taking a gate away from a verdict that passes leaves no verdict that failed before."""
    if judge(case, gates).outcome is Outcome.PASS:
        assert judge(case, gates[:-1]).outcome is not Outcome.FAIL


@given(case=cases, gates=st.lists(gates, max_size=4).map(tuple))
def test_the_verdict_survives_being_stored(case, gates):
    """A verdict read back from its JSON is the same verdict, whatever numbers it holds."""
    verdict = judge(case, gates)
    assert type(verdict).model_validate_json(verdict.model_dump_json()).model_dump_json() == verdict.model_dump_json()


def test_a_first_model_passes_on_absolute_gates_and_the_smoke_test():
    """Without a champion the bound and the smoke test decide, and the comparisons say that they do not apply."""
    verdict = judge(case(), (AUC, NO_WORSE, PROVED))
    assert verdict.outcome is Outcome.PASS
    assert verdict.bootstrap
    assert [c.outcome for c in verdict.checks] == ["PASS", "NOT_APPLICABLE", "NOT_APPLICABLE", "PASS"]


def test_a_first_model_needs_a_bound():
    """Comparisons alone cannot let the first model through."""
    verdict = judge(case(), (NO_WORSE, PROVED))
    assert verdict.outcome is Outcome.UNDECIDED
    assert any("no champion yet" in reason for reason in verdict.reasons)


def test_no_gates_is_undecided():
    """An empty list of gates never passes, champion or not."""
    assert judge(case(), ()).outcome is Outcome.UNDECIDED
    assert judge(case(champion=True), ()).outcome is Outcome.UNDECIDED


@pytest.mark.parametrize(
    "smoke",
    [None, SMOKE.model_copy(update={"outcome": "NOT_APPLICABLE"}), SMOKE.model_copy(update={"outcome": "UNDECIDED"})],
)
def test_an_artifact_that_was_not_tried_is_undecided(smoke):
    """A smoke test that was not made, or does not say PASS, holds the promotion."""
    assert judge(case(smoke=smoke), (AUC,)).outcome is Outcome.UNDECIDED


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (MetricValue(value=0.7, rows=100), "PASS"),
        (MetricValue(value=0.6999, rows=100), "FAIL"),
        (MetricValue(value=nan, rows=100), "FAIL"),
        (MetricValue(value=inf, rows=100), "FAIL"),
        (MetricValue(value=None, rows=100), "UNDECIDED"),
        (MetricValue(value=0.9, rows=99), "UNDECIDED"),
    ],
)
def test_a_bound_at_its_edges(found, outcome):
    """The limit itself passes; NaN and infinity fail; a missing metric or too few rows leave it open."""
    assert judge(case(metrics={"auc": found}), (AUC,)).outcome == outcome


def test_a_slice_is_judged_on_its_own_rows():
    """A slice that is missing, or has too few rows, leaves the verdict open although the whole is fine."""
    gate = BoundGate(kind="bound", metric="auc", at_least=0.7, slice="origin=JFK")
    assert judge(case(), (AUC, gate)).outcome is Outcome.UNDECIDED
    few = case(metrics={"auc": MetricValue(value=0.8, rows=1000), "auc[origin=JFK]": MetricValue(value=0.9, rows=10)})
    verdict = judge(few, (AUC, gate))
    assert verdict.outcome is Outcome.UNDECIDED
    assert "only 10 rows, at least 100" in verdict.reasons[0]


def test_every_check_is_made_although_the_first_fails():
    """A verdict records all checks, not only the first that fails."""
    verdict = judge(
        case(
            metrics={"auc": MetricValue(value=0.1, rows=1000)},
            champion=True,
            paired=paired([-0.1, -0.2, -0.1, -0.2, -0.1]),
        ),
        (AUC, NO_WORSE),
    )
    assert [c.outcome for c in verdict.checks] == ["FAIL", "FAIL", "PASS"]
    assert len(verdict.reasons) == 2


def test_a_champion_that_cannot_be_compared_holds_the_promotion():
    """When the champion cannot be scored, comparisons are UNDECIDED and say why; nothing counts as better."""
    verdict = judge(
        case(champion=True, champion_problem="its artifact is gone", paired=paired([1.0] * 7)), (AUC, NO_WORSE, PROVED)
    )
    assert verdict.outcome is Outcome.UNDECIDED
    assert all("its artifact is gone" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("differences", "outcome"),
    [
        ([0.01, 0.02, 0.01, 0.03, 0.02], "PASS"),
        ([-0.01, -0.02, -0.01, -0.03, -0.02], "FAIL"),
        ([0.2, -0.2, 0.2, -0.2, 0.1], "UNDECIDED"),
        ([0.01] * 4, "UNDECIDED"),
        ([0.01, nan, 0.01, 0.01, 0.01, 0.01], "UNDECIDED"),
        ([0.01, inf, 0.01, 0.01, 0.01, 0.01], "UNDECIDED"),
        ([1e308, -1e308, 1e308, -1e308, 1e308], "UNDECIDED"),
    ],
)
def test_the_comparison_on_the_holdout(differences, outcome):
    """No worse by the interval passes, clearly worse fails; noise, too few days and numbers that are none stay open."""
    assert judge(case(champion=True, paired=paired(differences)), (AUC, NO_WORSE)).outcome == outcome


def test_days_without_rows_do_not_count():
    """A day on which no row was common to both models is no day of evidence."""
    verdict = judge(case(champion=True, paired=paired([0.1] * 7, rows=0)), (AUC, NO_WORSE))
    assert "0 days that neither model has seen" in verdict.reasons[0]


def test_one_day_told_in_two_ways_is_no_evidence():
    """A day that is listed twice with different losses holds the promotion instead of counting one of them."""
    told = paired([0.01] * 6)["log_loss"]
    twice = (*told, told[0].model_copy(update={"challenger": 0.1}))
    assert judge(case(champion=True, paired={"log_loss": (*told, told[0])}), (AUC, NO_WORSE)).outcome is Outcome.PASS
    assert judge(case(champion=True, paired={"log_loss": twice}), (AUC, NO_WORSE)).outcome is Outcome.UNDECIDED


@example(order=[4, 3, 2, 1, 0])
@given(order=st.permutations(range(5)))
def test_the_order_of_days_does_not_matter(order):
    """Days in any order give the same verdict."""
    told = paired([0.01, 0.02, -0.01, 0.03, 0.02])["log_loss"]
    straight = judge(case(champion=True, paired={"log_loss": told}), (AUC, NO_WORSE))
    mixed = judge(case(champion=True, paired={"log_loss": tuple(told[i] for i in order)}), (AUC, NO_WORSE))
    assert mixed.outcome is straight.outcome


@pytest.mark.parametrize(
    ("differences", "outcome", "words"),
    [
        ([0.02] * 30, "PASS", "E ="),
        ([-0.02] * 30, "FAIL", "it is worse"),
        ([0.02] * 4, "UNDECIDED", "at least 5 days"),
        ([], "UNDECIDED", "after 0 days"),
        ([0.01, -0.01] * 10, "UNDECIDED", "after 20 days"),
        ([0.02] * 9 + [nan], "UNDECIDED", "not a finite number"),
    ],
)
def test_the_evidence_of_a_reign(differences, outcome, words):
    """A steady improvement is proved, a steady loss is told, and everything else is carried on to the next night."""
    verdict = judge(case(champion=True, trial=trial(differences)), (AUC, PROVED))
    assert verdict.outcome == outcome
    assert any(words in check.reason for check in verdict.checks)


def test_an_undecided_evidence_tells_how_long_it_will_take():
    """UNDECIDED shows E, the days used, and the nights that are likely to be missing."""
    reason = judge(
        case(champion=True, trial=trial([0.012, -0.004, 0.009, 0.001, -0.002, 0.003])), (AUC, PROVED)
    ).reasons[0]
    assert "of 20 after 6 days" in reason
    assert "more nights" in reason


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("field", ["at_least", "at_most"])
def test_a_bound_must_be_a_number(field, value):
    """A gate whose bound is NaN or infinite is refused where it is written."""
    with pytest.raises(ValidationError):
        BoundGate(kind="bound", metric="auc", **{field: value})


@pytest.mark.parametrize("value", [nan, inf, -0.1])
@pytest.mark.parametrize("gate", [ChampionGate, EvidenceGate])
def test_a_margin_must_be_a_number(gate, value):
    """A margin that is NaN, infinite or negative is refused where it is written; an infinite one would pass anything."""
    with pytest.raises(ValidationError):
        gate(kind=gate.model_fields["kind"].annotation.__args__[0], loss="brier", margin=value)


def test_a_bound_has_one_side():
    """A bound with both sides, or with none, is refused."""
    for sides in ({}, {"at_least": 0.1, "at_most": 0.2}):
        with pytest.raises(ValidationError, match="exactly one"):
            BoundGate(kind="bound", metric="auc", **sides)


def test_gates_say_their_rule_in_words():
    """The name of a check is the rule, readable by a person."""
    assert AUC.name == "auc ≥ 0.7"
    assert BoundGate(kind="bound", metric="rmse", at_most=3, slice="store=A").name == "rmse [store=A] ≤ 3"
    assert NO_WORSE.name == "log_loss no worse than the champion's by more than 0"
