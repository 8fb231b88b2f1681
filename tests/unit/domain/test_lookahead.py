"""What counts as another value, and which days have been met."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.lookahead import changed, in_turn, met
from ratchet.domain.models import ModelVersion
from ratchet.domain.windows import Span

FIRST = date(2024, 5, 1)
HOLDOUT = Span(first=FIRST + timedelta(days=10), last=FIRST + timedelta(days=12))
VALUES = st.one_of(st.none(), st.floats(-1e6, 1e6))


def numbers(values):
    """Return values as numbers, NaN for none."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def champion(seen_through):
    """Return a champion that has met days up to one."""
    return ModelVersion(
        version=4, run_key="r", mlflow_run_id="m", artifact_digest="a", seen_through=seen_through, cutoff=seen_through
    )


@given(st.lists(VALUES, max_size=30), st.sampled_from(["double", "float", "code"]))
def test_the_same_values_have_not_changed(values, kind):
    """Whatever they are."""
    assert changed(numbers(values), numbers(values), kind) == {}


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30))
def test_each_row_counts_at_most_once(pairs):
    """A value has appeared, gone, risen or fallen; and what has appeared one way has gone the other."""
    then, now = (numbers(values) for values in zip(*pairs, strict=True))
    there, back = changed(then, now, "double"), changed(now, then, "double")
    assert sum(there.values()) <= len(pairs)
    assert (there.get("had no value then"), there.get("are higher now")) == (
        back.get("have none now"),
        back.get("are lower now"),
    )


def test_rounding_is_no_change_and_all_else_is():
    """Sums over other rows end in other last bits; a thousandth is another value, of a feature in 32 bits too."""
    values = np.array([1e6, 3.0, -2.0])
    assert changed(values, values * (1 + 1e-14), "double") == {}
    assert changed(values, values + np.array([0, 0.01, 0]), "double") == {"are higher now": 1}
    assert changed(values.astype(np.float32), np.float32(values * (1 + 1e-7)), "float") == {}
    assert changed(values, values - np.array([1000.0, 0, 0]), "float") == {"are lower now": 1}


def test_infinite_values_and_others_can_be_told_apart():
    """What is infinite on both sides is the same; on one side it is not."""
    then = np.array([np.inf, np.inf, 1.0, np.nan])
    assert changed(then, then.copy(), "double") == {}
    assert changed(then, np.array([np.inf, 1.0, -np.inf, 2.0]), "double") == {
        "had no value then": 1,
        "are lower now": 2,
    }


def test_the_order_of_days_follows_from_the_seed_alone():
    """Not from the order in which the days are named; another seed gives another order."""
    days = [FIRST + timedelta(days=i) for i in range(30)]
    assert in_turn(days, "a") == in_turn(days[::-1], "a") != in_turn(days, "b")
    assert sorted(in_turn(days, "a")) == days


@pytest.mark.parametrize(
    ("challenger", "serving", "judged", "tuner", "found"),
    [
        (9, 12, [13], 9, []),
        (9, None, [], None, []),
        (10, None, [], None, ["challenger"]),
        (9, 12, [12, 13], None, ["champion v4"]),
        (9, 3, [4], 11, ["tuner"]),
        (12, 13, [13], 12, ["challenger", "tuner", "champion v4"]),
    ],
)
def test_days_that_were_met_before_they_judge_are_found(challenger, serving, judged, tuner, found):
    """Of the challenger and the tuner in the hold-out, of the champion among the days that it was scored on."""

    def day(number):
        return None if number is None else FIRST + timedelta(days=number)

    serves = champion(day(serving)) if serving else None
    made = met(HOLDOUT, day(challenger), serves, [day(n) for n in judged], day(tuner))
    assert [finding.subject for finding in made] == found
    assert {finding.action for finding in made} <= {"hold"}
