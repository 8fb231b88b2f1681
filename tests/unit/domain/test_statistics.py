"""The e-process and the interval: valid under the null, able to find what is real, and never thrown by a number."""

from __future__ import annotations

from math import inf, isfinite, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ratchet.domain.statistics import Evidence, detector, e_bh, e_process, lower_and_upper

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


def test_worse_by_less_than_the_margin_is_not_told_as_worse():
    """The mirrored process proves that the margin is exceeded, and nothing less."""
    differences = np.random.default_rng(4).normal(-0.1, 0.2, 91)
    within, beyond = (e_process(reign(differences), margin=m) for m in (0.2, 0.02))
    assert within.better >= 20
    assert within.worse < 1
    assert beyond.worse >= 20
    assert beyond.better < 1


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


def test_days_that_follow_each_other_ask_for_twice_the_proof():
    """With a lag-1 autocorrelation above .2 half of alpha is asked for; independent days, and few days, ask for no more."""
    random = np.random.default_rng(5)
    streak = np.repeat(random.normal(0.2, 1, 9), 7)
    drawn = random.permutation(streak)
    state = e_process(reign(streak), margin=0)
    assert state.autocorrelation > 0.5
    assert state.persistent
    assert state.needed(0.05) == 40
    assert not e_process(reign(drawn), margin=0).persistent
    assert e_process(reign(drawn), margin=0).needed(0.05) == 20
    assert not e_process(reign(streak[:9]), margin=0).persistent


def test_in_mild_regimes_of_a_week_wrong_promotions_stay_rare():
    """Under a null in which a sixth of the variance is shared by a whole week, at most .12 of quarters promote at alpha .05."""
    random = np.random.default_rng(13)
    wrong = 0
    for _ in range(100):
        evidence = reign(np.repeat(random.normal(0, 1, 13), 7) + random.normal(0, sqrt(5), 91))
        states = (e_process(evidence[:n], margin=0) for n in range(5, 92, 3))
        wrong += any(state.better >= state.needed(0.05) for state in states)
    assert wrong <= 0.12 * 100


@pytest.mark.parametrize(("differences", "sooner"), [([0.5] * 3, [0.9] * 3), ([0.3, -0.4, 0.3], [0.9, -0.3, 0.9])])
def test_the_projection_says_when(differences, sooner):
    """A stream that grows is projected by its growth, one that has not grown yet by its signal, one that shrinks not at all."""
    nights = e_process(reign(differences), margin=0).nights_left(0.05)
    better = e_process(reign(sooner), margin=0).nights_left(0.05)
    assert nights is not None
    assert better is not None
    assert better <= nights
    assert e_process(reign([-d for d in differences]), margin=0).nights_left(0.05) is None


def test_a_watch_finds_a_change_that_comes_late():
    """After ninety bad days the e-process is too poor to notice thirty good ones; the detector notices, and names the day."""
    random = np.random.default_rng(17)
    evidence = reign(np.concatenate([random.normal(-0.5, 1, 90), random.normal(1.2, 1, 30)]))
    assert e_process(evidence, margin=0).better < 20
    watch = detector(evidence, margin=0, alarms_per_quarter=0.1)
    assert watch.threshold == 910
    assert watch.crossed is not None
    assert evidence[90].day <= watch.crossed <= evidence[119].day
    assert detector(evidence[:90], margin=0, alarms_per_quarter=0.1).crossed is None


def test_false_alarms_of_a_watch_are_as_rare_as_asked():
    """Without a change the detectors of 150 quarters alarm no more often than a quarter's share allows, and ten share theirs."""
    random = np.random.default_rng(19)
    quarters = [reign(random.normal(0, 1, 91)) for _ in range(150)]
    alone = sum(detector(q, margin=0, alarms_per_quarter=0.5).crossed is not None for q in quarters)
    assert alone <= stats.binom.ppf(0.999, 150, 0.5)
    shared = sum(detector(q, margin=0, alarms_per_quarter=0.5, monitors=10).crossed is not None for q in quarters)
    assert shared <= stats.binom.ppf(0.999, 150, 0.05)


@given(differences=st.lists(moderate, max_size=12), order=st.randoms(use_true_random=False))
def test_a_watch_is_the_sum_of_the_bets_begun_on_each_day(differences, order):
    """Days shuffled and told twice change nothing, and what has crossed stays crossed."""
    evidence = reign(differences)
    mixed = evidence * 2
    order.shuffle(mixed)
    watch = detector(mixed, margin=0, alarms_per_quarter=30)
    assert watch == detector(evidence, margin=0, alarms_per_quarter=30)
    longer = detector(reign([*differences, -3.0]), margin=0, alarms_per_quarter=30)
    assert watch.crossed is None or longer.crossed == watch.crossed


def test_a_watch_over_nothing_new_counts_the_days():
    """Days without any difference let R grow by one each: that is what the threshold is measured in."""
    assert detector(reign([0.0] * 7), margin=0, alarms_per_quarter=1).value == pytest.approx(7)


@given(
    evidence=st.lists(st.tuples(st.floats(), st.floats()), max_size=15),
    margin=st.floats(),
    alarms=st.floats(),
    monitors=st.integers(-3, 10**6),
)
def test_no_number_throws_the_watch(evidence, margin, alarms, monitors):
    """Any floats whatever give a finite R, or a problem in words that has not crossed."""
    made = [
        e.model_copy(update={"scale": s}) for e, (_, s) in zip(reign([d for d, _ in evidence]), evidence, strict=True)
    ]
    watch = detector(made, margin=margin, alarms_per_quarter=alarms, monitors=monitors)
    assert isfinite(watch.value)
    assert not (watch.problem and watch.crossed)


members = st.dictionaries(st.text(max_size=3), st.floats() | st.floats(0, 1e4), max_size=12)


@given(members=members, share=st.floats(), order=st.randoms(use_true_random=False))
def test_ebh_is_total_and_blind_to_order(members, share, order):
    """Any floats give a set of members, the same in any order; who is proved has an E of at least 1/share, or nobody is."""
    mixed = list(members.items())
    order.shuffle(mixed)
    proved = e_bh(members, share)
    assert proved <= members.keys()
    assert all(isfinite(members[name]) and members[name] * share >= 0.999 for name in proved)
    assert len(e_bh(dict(mixed), share)) == len(proved)
    assert {members[n] for n in e_bh(dict(mixed), share)} == {members[n] for n in proved}


@given(members=members, name=st.text(max_size=3), raised=st.floats(0, 1e6))
def test_ebh_never_takes_back_for_more_evidence(members, name, raised):
    """When one member's E rises, everybody who was proved still is."""
    was = members.get(name, 0.0)
    more = {**members, name: max(raised, was if isfinite(was) else 0.0)}
    assert e_bh({**members, name: was}, 0.1) <= e_bh(more, 0.1)


def test_ebh_asks_one_alone_for_what_many_share():
    """Of fifty members one alone needs 500 at a share of .1; five together need 100 each; a NaN counts as a member without proof."""
    idle = {f"idle{i}": 0.5 for i in range(49)}
    assert e_bh({**idle, "a": 499.0}, 0.1) == frozenset()
    assert e_bh({**idle, "a": 500.0}, 0.1) == {"a"}
    five = {**{k: v for k, v in idle.items() if k < "idle45"}, **dict.fromkeys("abcde", 100.0)}
    five = {**five, **{f"more{i}": nan for i in range(50 - len(five))}}
    assert e_bh(five, 0.1) == set("abcde")
    assert e_bh({**five, "e": 99.0}, 0.1) == frozenset()


def test_ebh_bounds_the_share_of_wrong_ones():
    """Of fifty streams of which ten are truly better, at most a tenth of those that e-BH ever names tonight is wrong, on average."""
    random = np.random.default_rng(23)
    shares, found = [], 0
    for _ in range(12):
        streams = {f"good{i}": random.normal(0.6, 1, 45) for i in range(10)}
        streams |= {f"null{i}": random.normal(0, 1, 45) for i in range(40)}
        proved = e_bh({name: e_process(reign(d), margin=0).better for name, d in streams.items()}, 0.1)
        wrong = sum(name.startswith("null") for name in proved)
        shares.append(wrong / max(len(proved), 1))
        found += len(proved) - wrong
    assert np.mean(shares) <= 0.1
    assert found >= 0.5 * 120
