"""What the evidence gate says: lanes in plain words, whom a proof promotes, and what a fleet changes."""

from __future__ import annotations

from datetime import date, timedelta
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.evidence import Member, Shadow, Trial, candidate, counting, evidence_check
from ratchet.domain.gates import EvidenceGate
from ratchet.domain.models import ModelVersion
from ratchet.domain.statistics import Evidence, e_process

FIRST = date(2024, 1, 1)
GATE = EvidenceGate(kind="evidence", loss="brier")
SHARED = GATE.model_copy(update={"fleet": "shops"})
BETTER, WORSE, NOISE = [0.01] * 12, [-0.01] * 12, [0.01, -0.011] * 6


def version(number: int) -> ModelVersion:
    """Return a version that was made on the night of its number."""
    return ModelVersion(
        version=number,
        run_key=f"night {number}",
        mlflow_run_id=f"run-{number}",
        artifact_digest=str(number),
        seen_through=FIRST,
        cutoff=FIRST + timedelta(days=number),
    )


def shadow(number: int, losses: dict[int, float], *, sound: bool = True) -> Shadow:
    """Return a challenger with its losses by day of the month."""
    return Shadow(
        version=version(number), sound=sound, days={f"2024-01-{day:02d}": {"brier": x} for day, x in losses.items()}
    )


SHADOWS = (shadow(2, {3: 0.1, 4: 0.1, 5: 0.1}),)


def trial(differences, lane="recipe", shadows=SHADOWS, replayed=0, **facts) -> Trial:
    """Return a trial by its daily differences."""
    days = tuple(
        Evidence(
            day=str(FIRST + timedelta(days=i)),
            rows=9,
            champion=1,
            challenger=0,
            difference=float(d),
            scale=0.01,
            replayed=i < replayed,
        )
        for i, d in enumerate(differences)
    )
    facts = {"cutoff": date(2024, 2, 1), **facts}
    return Trial(lane=lane, evidence={"brier": days}, shadows=tuple(shadows), **facts)


@pytest.mark.parametrize(
    ("made", "outcome", "words"),
    [
        (trial(BETTER, replayed=9), "PASS", "after 12 days (9 of them replayed from history)"),
        (trial(BETTER), "PASS", "the new recipe against the champion's, both refreshed nightly: E = "),
        (trial(BETTER, "refresh"), "PASS", "refreshing against holding: E = "),
        (trial(BETTER, serving="its recipe was not kept"), "PASS", "as it serves (its recipe was not kept): E = "),
        (trial(BETTER, shadows=()), "UNDECIDED", "no sound challenger of this recipe has shadowed for 3 days"),
        (trial(WORSE), "FAIL", "it is worse, as is proved by E = "),
        (trial(WORSE, "refresh"), "FAIL", "refreshed models are worse than one that is held"),
        (trial(NOISE), "UNDECIDED", "no proof in sight"),
        (trial([0.004, -0.001, 0.003, 0.002, 0.001, 0.002]), "UNDECIDED", "more nights"),
        (trial(BETTER[:4]), "UNDECIDED", "at least 5 days are needed"),
        (trial([]), "UNDECIDED", "after 0 days; at least 5 days are needed"),
        (trial([*BETTER, nan]), "UNDECIDED", "not a finite number"),
        (
            trial(NOISE, without=("2024-01-02: too_few_rows", "b", "c")),
            "UNDECIDED",
            "without evidence: b; c and 1 more",
        ),
        (trial([], "refresh", certified_by=4), "PASS", "refreshing is certified by ledger entry 4"),
        (None, "UNDECIDED", "no evidence was gathered"),
    ],
)
def test_where_the_evidence_stands(made, outcome, words):
    """The outcome, and in plain words what is asked, how far it is, and what is missing."""
    check = evidence_check(GATE, made)
    assert (check.outcome, words in check.reason) == (outcome, True), check.reason


def test_a_certified_recipe_is_proved_each_time_where_that_is_asked_for():
    """With lane: prove a certification changes nothing; and it is none for another recipe."""
    prove = GATE.model_copy(update={"lane": "prove"})
    assert evidence_check(prove, trial(NOISE, "refresh", certified_by=4)).outcome == "UNDECIDED"
    assert evidence_check(GATE, trial(NOISE, "recipe", certified_by=4)).outcome == "UNDECIDED"


def test_persistent_days_need_twice_the_proof_and_say_so():
    """An E between 20 and 40 passes on independent days and not on days that follow each other."""
    random = np.random.default_rng(2)
    for _ in range(400):
        differences = np.repeat(random.normal(0.003, 0.01, 5), 4)
        state = e_process(trial(differences).evidence["brier"], margin=0)
        if state.persistent and 20 <= state.better < 40:
            break
    check = evidence_check(GATE, trial(differences))
    assert (check.outcome, check.limit) == ("UNDECIDED", 40)
    assert "so twice the proof is asked for" in check.reason


def test_the_best_over_common_days_is_promoted():
    """An older challenger with easy days does not win by them; only days that all have scored are compared."""
    shadows = (
        shadow(4, {5: 0.20, 6: 0.20, 7: 0.20}),
        shadow(3, {4: 0.01, 5: 0.21, 6: 0.21, 7: 0.21}),
        shadow(2, {3: 0.01, 4: 0.01, 5: 0.30, 6: 0.30, 7: 0.30}),
    )
    best, why = candidate(GATE, trial(BETTER, shadows=shadows))
    assert best == version(4)
    assert "the best of 3 over 3 common days in shadow" in why


@pytest.mark.parametrize(
    ("shadows", "best"),
    [
        ((shadow(3, {4: 0.2, 5: 0.2, 6: 0.2}, sound=False), shadow(2, {4: 0.3, 5: 0.3, 6: 0.3})), 2),
        ((shadow(3, {5: 0.1, 6: 0.1}), shadow(2, {4: 0.3, 5: 0.3, 6: 0.3})), 2),
        ((shadow(3, {4: nan, 5: 0.1, 6: 0.1}), shadow(2, {4: 0.3, 5: 0.3, 6: 0.3})), 2),
        ((shadow(9, {10: 0.3, 11: 0.3, 12: 0.3}), shadow(2, {3: 0.1, 4: 0.1, 5: 0.1})), 9),
        ((shadow(3, {4: 0.3, 5: 0.3, 6: 0.3}), shadow(2, {4: 0.3, 5: 0.3, 6: 0.3})), 3),
        ((*(shadow(n, {20: 0.1}) for n in range(18, 11, -1)), shadow(2, {4: 0.3, 5: 0.3, 6: 0.3})), None),
    ],
)
def test_who_can_be_a_candidate(shadows, best):
    """Unsound ones, those with too few days or no number are passed over; so is what left the league long ago, and an equal goes to the newer."""
    found, why = candidate(GATE, trial(BETTER, shadows=shadows))
    assert (found.version if found else None) == best, why


def fleet(*values, cutoff=date(2024, 1, 30)):
    """Return other members."""
    return {"shops": tuple(Member(pipeline=f"shop{i}", cutoff=cutoff, evidence=e) for i, e in enumerate(values))}


def test_alone_among_many_more_is_asked_for_and_together_less():
    """Of 41 the one that is proved needs 410; among ten that are proved 41 each; alone in it, as without one, 20."""
    twelve = e_process(trial(BETTER).evidence["brier"], margin=0).better
    assert 41 < twelve < 410
    alone = evidence_check(SHARED, trial(BETTER, fleets=fleet(*[0.5] * 40)))
    assert (alone.outcome, alone.limit) == ("UNDECIDED", 410)
    assert "in fleet shops of 41" in alone.reason
    together = evidence_check(SHARED, trial(BETTER, fleets=fleet(*[0.5] * 31, *[1000.0] * 9)))
    assert (together.outcome, together.limit) == ("PASS", 41)
    assert evidence_check(SHARED, trial(BETTER, fleets=fleet())).limit == 20


def test_who_tests_nothing_does_not_count_and_who_is_late_is_named():
    """A certified member makes it harder for nobody; a stale one counts with its last E, and is said to be old."""
    check = evidence_check(SHARED, trial(BETTER, fleets=fleet(None, None, 0.5, cutoff=date(2024, 1, 2))))
    assert (check.outcome, check.limit) == ("PASS", 20)
    assert "in fleet shops of 2 (shop2 as of more than 7 days ago)" in check.reason


@given(others=st.lists(st.none() | st.floats(), max_size=8), share=st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_what_is_asked_of_a_member_is_what_decides(others, share):
    """Whatever the others have, a member passes exactly when its E reaches the limit that is shown."""
    gate = SHARED.model_copy(update={"false_share": share})
    for differences in (BETTER, NOISE, [0.02] * 40):
        check = evidence_check(gate, trial(differences, fleets=fleet(*others)))
        assert (check.outcome == "PASS") is (check.value >= check.limit * (1 + 1e-9)) or check.value == pytest.approx(
            check.limit
        )


def test_what_a_pipeline_leaves_for_its_fleet():
    """Its E; half of it where days are persistent; and nothing where nothing is being proved."""
    assert counting(GATE, trial(BETTER)) == e_process(trial(BETTER).evidence["brier"], margin=0).better
    assert counting(GATE, trial([], "refresh", certified_by=1)) is None
    assert counting(GATE, None) is None
    streak = trial(np.repeat(np.random.default_rng(5).normal(0.2, 1, 9), 7))
    assert counting(GATE, streak) == e_process(streak.evidence["brier"], margin=0).better / 2


def test_a_trial_survives_being_stored():
    """What a night records is what it has judged."""
    made = trial(BETTER, shadows=(shadow(2, {3: 0.1}),), fleets=fleet(0.5, None))
    assert Trial.model_validate_json(made.model_dump_json()) == made
