"""Bins tell values apart, and counts add up."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ratchet.domain.profiles import BINS, LABEL, Bins, Profile, feature, number_bins, number_codes

START = date(2024, 1, 1)
samples = arrays(np.float64, st.integers(0, 60), elements=st.floats(allow_infinity=False, width=32))


@given(before=samples, after=samples)
def test_every_number_has_one_bin_that_is_named(before, after):
    """Whatever comes after training falls into a bin that has a name; only what is missing falls into the last."""
    bins = number_bins(before)
    codes = number_codes(bins, after)
    assert len(bins.labels) == bins.size <= 2 * BINS + 4
    assert ((codes == bins.size - 1) == np.isnan(after)).all()
    assert ((codes >= 0) & (codes < bins.size)).all()


def test_few_values_are_named_as_they_are():
    """A flag's bins are its two values; what lies elsewhere is told from them."""
    bins = number_bins(np.repeat([0.0, 1.0], 50))
    assert [bins.labels[code] for code in number_codes(bins, np.array([0.0, 1.0, -1.0, np.nan]))] == [
        "0",
        "1",
        "below 0",
        "missing",
    ]


def test_what_lies_far_beyond_training_is_told_from_a_record():
    """A number in another unit has a bin of its own; one a little colder than all of training shares that of the coldest."""
    bins = number_bins(np.arange(100.0), fenced=True)
    lowest, record, elsewhere, high = number_codes(bins, np.array([0.0, -10.0, -60.0, 160.0]))
    assert lowest == record != elsewhere
    assert [bins.strange[code] for code in (lowest, elsewhere, high, bins.size - 1)] == [0, 1, 1, 2]


def test_a_category_has_a_bin_for_what_is_new():
    """Texts that training has not met share a bin, an empty one is named, and none of all is missing."""
    bins = Bins(kind="category", values=("a", ""))
    assert bins.labels == ("a", "(empty)", "any other", "missing")


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 50), min_size=3, max_size=3)), max_size=10))
def test_profiles_add_up_over_days(days):
    """The counts of two spans that touch are those of both together: a profile can be merged, and cut."""
    counts = {START + timedelta(days=n): {LABEL: tuple(row)} for n, row in dict(days).items()}
    last = START + timedelta(days=9)
    made = Profile(
        first=START,
        seen_through=last,
        tried_from=last,
        last=last,
        bins={LABEL: Bins(kind="category", values=("a",))},
        days=counts,
    )
    middle = START + timedelta(days=4)
    parts = made.pooled(LABEL, START, middle) + made.pooled(LABEL, middle + timedelta(days=1), last)
    assert (parts == made.pooled(LABEL, START, last)).all()
    assert parts.sum() == sum(sum(row) for row in dict(days).values())
    assert Profile.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize("name", ["label", "prediction", "confidence", "feature x", ""])
def test_no_feature_is_taken_for_the_label(name):
    """However a feature is called, it is not the label or the predictions."""
    assert feature(name) not in {"label", "prediction", "confidence"}
