"""Contributions are summed up by feature, by slice, and against the champion's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ratchet.domain.explanations import (
    MOVED,
    Explanation,
    feature_shares,
    importance_drift,
    sizes,
    slice_shares,
)

DAYS = np.repeat(np.arange("2024-03-01", "2024-03-06", dtype="datetime64[D]"), 20)


def moves(*scales, seed=1):
    """Return how much each feature moves each of 100 rows."""
    return np.abs(np.random.default_rng(seed).normal(size=(len(DAYS), len(scales)))) * np.array(scales)


def test_sizes_leave_the_base_out():
    """The base is no feature's, signs do not cancel, and classes are averaged."""
    contributions = np.array([[[1.0, -2.0, 99.0], [-3.0, 0.0, 99.0]]])
    assert sizes(contributions).tolist() == [[2.0, 1.0]]


def test_shares_add_up_and_come_in_order():
    """The most important feature comes first, and all shares are one."""
    found = feature_shares(["a", "b", "c"], DAYS, moves(1, 3, 0))
    assert [f.name for f in found] == ["b", "a", "c"]
    assert sum(f.share for f in found) == pytest.approx(1)
    assert found[-1].mean == 0


def test_intervals_hold_the_mean_of_many_days():
    """About 95 of 100 intervals over days hold the mean that the days were drawn around."""
    random, held = np.random.default_rng(5), 0
    for _ in range(200):
        level = np.exp(random.normal(0, 0.3, size=12))  # each day has a level of its own
        days = np.repeat(np.arange(12), 15)
        moved = (level[days] * random.exponential(1.0, size=len(days)))[:, None]
        (found,) = feature_shares(["a"], days, moved)
        held += found.low <= np.exp(0.3**2 / 2) <= found.high
    assert 176 <= held <= 198  # 190 wanted; rows taken for independent ones give about 140


def test_one_day_has_no_interval():
    """Of a single day nothing is said of other days."""
    (found,) = feature_shares(["a"], DAYS[:20], moves(1)[:20])
    assert (found.low, found.high) == (None, None)


def test_features_that_move_nothing_have_no_share():
    """A model of one leaf divides nothing by nothing."""
    found = feature_shares(["a", "b"], DAYS, moves(0, 0))
    assert [f.share for f in found] == [0, 0]


@given(
    arrays(np.float64, (30, 3), elements=st.floats(0, 1e3)),
    arrays(np.float64, (30, 3), elements=st.floats(0, 1e3)),
)
def test_a_distance_is_a_share(ours, theirs):
    """Whatever two models look at, between 0 and 1 of it has moved; nothing, where they look at the same."""
    days, names = np.repeat(np.arange(3), 10), ["a", "b", "c"]
    made, _ = importance_drift(1, days, (names, ours), (names, theirs))
    assert 0 <= made.distance <= 1 + 1e-9
    same, _ = importance_drift(1, days, (names, ours), (names, ours))
    assert same.distance == 0
    assert not same.warning
    assert not same.gained


def test_what_has_moved_is_named():
    """Half of the importance passes from one feature to another: a person reads how much, and between which."""
    made, theirs = importance_drift(7, DAYS, (["a", "b"], moves(1, 3)), (["a", "b"], moves(3, 1)))
    assert made.distance == pytest.approx(0.5, abs=0.03)
    assert made.low < made.distance < made.high
    assert made.warning.startswith("the challenger looks at other features than champion v7: ")
    assert "b +" in made.warning
    assert "a -" in made.warning
    assert theirs["a"] == pytest.approx(0.75, abs=0.03)


def test_little_that_has_moved_warns_nobody():
    """Below the level, or not surely above it, no person is asked to look."""
    made, _ = importance_drift(7, DAYS, (["a", "b"], moves(1, 1)), (["a", "b"], moves(1, 1.1)))
    assert 0 < made.distance < MOVED
    assert made.warning == ""


def test_features_that_only_one_model_has_are_named():
    """A column that came, and one that went, count as moved."""
    made, theirs = importance_drift(7, DAYS, (["a", "new"], moves(1, 1)), (["a", "old"], moves(1, 1)))
    assert (made.only_challenger, made.only_champion) == (("new",), ("old",))
    assert "new: new" in made.warning
    assert "gone: old" in made.warning
    assert theirs["new"] == 0


def test_ranks_are_compared():
    """The order of features turned round correlates as -1; of two features no order is told."""
    names = ["a", "b", "c"]
    made, _ = importance_drift(1, DAYS, (names, moves(1, 2, 4)), (names, moves(4, 2, 1)))
    assert made.rank == pytest.approx(-1)
    two, _ = importance_drift(1, DAYS, (names[:2], moves(1, 2)), (names[:2], moves(1, 2)))
    assert two.rank is None


def test_a_slice_is_held_against_all_rows():
    """What a slice's predictions rest on, and how far that is from the rest."""
    found = slice_shares("place", "north", ["a", "b"], moves(1, 0), moves(1, 1))
    assert found.top == {"a": 1.0}
    assert found.distance == pytest.approx(0.5, abs=0.05)


def test_a_brief_keeps_the_most_important():
    """What travels from task to task is bounded, and says how many features it leaves out."""
    names = [f"f{i:02}" for i in range(50)]
    features = feature_shares(names, DAYS, moves(*range(50, 0, -1)))
    slices = tuple(slice_shares("c", str(i), names, moves(*range(50)), moves(*range(50))) for i in range(30))
    brief = Explanation(features=features, slices=slices, missing=dict.fromkeys(names, 0.5)).brief
    assert len(brief.features) + brief.left_out == 50
    assert len(brief.slices) == 12
    assert all(len(s.top) == 3 for s in brief.slices)
    assert len(brief.missing) == 20
