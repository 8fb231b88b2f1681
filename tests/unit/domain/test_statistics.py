"""The e-process and the interval: valid under the null, able to find what is real, and never thrown by a number."""

from __future__ import annotations

from math import inf, isfinite, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ratchet.domain.statistics import Evidence, e_process, lower_and_upper

ALPHA, NIGHTS, QUARTERS = 0.2, 30, 200


def reign(differences, scale=1.0):
    """Return evidence of consecutive days."""
    days = np.datetime64("2024-01-01") + np.arange(len(differences))
    return [
        Evidence(day=str(day), rows=1, champion=1, challenger=2, difference=float(d), scale=scale)
        for day, d in zip(days, differences, strict=True)
    ]


def ever_promoted(differences, alpha, margin=0.0):
    """Look every night, as the platform does, and say whether E has ever crossed."""
    evidence = reign(differences)
    return any(e_process(evidence[:n], margin=margin).better >= 1 / alpha for n in range(1, len(evidence) + 1))


@pytest.mark.parametrize("law", ["normal", "heavy tails", "changing scale"])
def test_wrong_promotions_stay_below_alpha_although_every_night_is_looked_at(law):
    """Under the null the share of quarters with a promotion is, by Monte Carlo, not above alpha; a naive look fails the same test."""
    random = np.random.default_rng(7)
    draws = {
        "normal": lambda: random.normal(size=NIGHTS),
        "heavy tails": lambda: random.standard_t(3, size=NIGHTS),
        "changing scale": lambda: random.normal(size=NIGHTS) * np.exp(np.cumsum(random.normal(0, 0.2, NIGHTS))),
    }[law]
    most = stats.binom.ppf(0.999, QUARTERS, ALPHA)
    quarters = [draws() for _ in range(QUARTERS)]
    assert sum(ever_promoted(q, ALPHA) for q in quarters) <= most

    def naive(q):
        running = np.cumsum(q) / np.arange(1, NIGHTS + 1) > 0.84 * np.abs(q).mean() / np.sqrt(np.arange(1, NIGHTS + 1))
        return running[4:].any()

    assert sum(naive(q) for q in quarters) > most


def test_a_real_improvement_is_found():
    """With half a standard deviation a night, nearly every quarter of 91 nights ends in a proof at alpha 0.05."""
    random = np.random.default_rng(11)
    found = sum(e_process(reign(random.normal(0.5, 1, 91)), margin=0).better >= 20 for _ in range(60))
    assert found >= 57


def test_a_worse_recipe_is_told_by_the_mirrored_process():
    """Differences that are negative on average raise the other E, not this one."""
    state = e_process(reign(np.random.default_rng(3).normal(-0.5, 1, 91)), margin=0)
    assert state.worse >= 20
    assert state.better < 1


moderate = st.floats(-3, 3)


@given(past=st.lists(moderate, max_size=20), size=st.floats(0, 100))
def test_a_fair_day_does_not_raise_the_expected_wealth(past, size):
    """After any past, a day that goes up or down by the same with even odds leaves the mean of E where it was: a martingale."""
    before = e_process(reign(past), margin=0)
    up, down = (e_process(reign([*past, sign * size]), margin=0) for sign in (1, -1))
    assert (up.better + down.better) / 2 == pytest.approx(before.better, rel=1e-9)
    assert (up.worse + down.worse) / 2 == pytest.approx(before.worse, rel=1e-9)


@given(past=st.lists(moderate, min_size=1, max_size=12), order=st.randoms(use_true_random=False))
def test_order_and_repetition_of_evidence_do_not_matter(past, order):
    """The same days shuffled, or told twice, give the same state: no day counts twice."""
    evidence = reign(past)
    mixed = evidence * 2
    order.shuffle(mixed)
    assert e_process(mixed, margin=0.1) == e_process(evidence, margin=0.1)


def test_a_day_told_in_two_ways_is_a_problem():
    """Two different figures for one day are not evidence: the process says so instead of choosing."""
    evidence = reign([0.1, 0.2])
    assert e_process([*evidence, evidence[0].model_copy(update={"difference": 5.0})], margin=0).problem


@given(
    evidence=st.lists(st.tuples(st.floats(), st.floats()), max_size=15),
    margin=st.floats(),
    alpha=st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_no_number_throws_it(evidence, margin, alpha):
    """Any floats whatever give a state: a finite E, or a problem in words with E at one."""
    made = [
        e.model_copy(update={"scale": s}) for e, (_, s) in zip(reign([d for d, _ in evidence]), evidence, strict=True)
    ]
    state = e_process(made, margin=margin)
    assert isfinite(state.better)
    assert isfinite(state.worse)
    assert state.better > 0
    nights = state.nights_left(alpha)
    assert nights is None or nights >= 1
    if state.problem:
        assert (state.better, state.worse) == (1.0, 1.0)


@pytest.mark.parametrize(
    "differences", [[2.0, -2.0, 1e-300], [1e-320] * 3, [0.0] * 30_000, [1e308, -1e308], [5e-324, 1e308]]
)
def test_numbers_at_the_ends_of_the_scale(differences):
    """Subnormal, huge and endlessly zero differences neither raise nor prove anything."""
    state = e_process(reign(differences[:25_000], scale=1e-12), margin=0)
    assert isfinite(state.better)
    assert state.nights_left(0.05) is None or state.nights_left(0.05) >= 1


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_day_without_a_number_is_a_problem(bad):
    """A single NaN or infinite day takes the process back to one and is named."""
    state = e_process(reign([0.1] * 50 + [bad]), margin=0)
    assert "finite" in state.problem
    assert state.better == 1.0


def test_a_bigger_margin_never_makes_it_harder():
    """Allowing the challenger to be a little worse can only raise E on a first day."""
    found = [e_process(reign([0.1]), margin=m).better for m in (0.0, 0.05, 0.5)]
    assert found == sorted(found)


def test_nothing_yet_is_one():
    """With no day scored E is one, and no time is promised."""
    state = e_process([], margin=0)
    assert (state.better, state.worse, state.days, state.nights_left(0.05)) == (1.0, 1.0, 0, None)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), confidence=st.floats(0.51, 0.999))
def test_the_interval_is_students(values, confidence):
    """Mean and one-sided bounds are those of Student's t."""
    mean, low, high = lower_and_upper(values, confidence)
    assert low <= mean <= high
    reach = stats.t.ppf(confidence, len(values) - 1) * np.std(values, ddof=1) / sqrt(len(values))
    assert high - mean == pytest.approx(reach, rel=1e-6, abs=1e-6)
