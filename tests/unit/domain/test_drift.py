"""The population stability index."""

from __future__ import annotations

from math import isfinite

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ratchet.domain.drift import index_of_counts, stability_index

samples = arrays(np.float64, st.integers(0, 40), elements=st.floats(allow_infinity=False))


@given(before=samples, after=samples)
def test_the_index_is_a_number_and_never_negative(before, after):
    """Of whatever samples the index is finite and at least 0; of an empty one there is none; of equal ones it is 0."""
    index = stability_index(before, after)
    if not len(before) or not len(after):
        assert index is None
    else:
        assert isfinite(index)
        assert index >= -1e-12
        assert stability_index(before, before) == pytest.approx(0, abs=1e-12)


def test_it_grows_with_the_shift_and_not_with_the_rows():
    """A tenth of a standard deviation is little and a whole one is a lot, for few rows as for many."""
    rng = np.random.default_rng(1)
    for rows in (2_000, 50_000):
        before, after = rng.normal(size=rows), rng.normal(size=rows)
        assert stability_index(before, after) < 0.02
        assert stability_index(before, after + 0.1) < 0.05
        assert 0.6 < stability_index(before, after + 1) < 1.5


def test_missing_values_are_a_bin():
    """A column that goes missing has drifted, though the values that are left have not."""
    values = np.random.default_rng(2).normal(size=5_000)
    missing = np.where(np.arange(5_000) % 5 == 0, np.nan, values)
    assert stability_index(values, missing) > 0.25
    assert stability_index(missing, missing) < 0.01


def test_few_values_are_bins_of_their_own():
    """A flag is compared by its rate, and a value that a constant never had is seen on either side of it."""
    flag = np.repeat([0.0, 1.0], [900, 100])
    assert stability_index(flag, np.repeat([0.0, 1.0], [890, 110])) < 0.01
    assert stability_index(flag, np.repeat([0.0, 1.0], [500, 500])) > 0.25
    constant = np.full(1000, 7.0)
    assert stability_index(constant, constant + 1e-9) > 0.25
    assert stability_index(constant, constant - 1e-9) > 0.25


def test_it_is_the_well_known_sum():
    """Over large counts it is the sum of (q − p) ln(q / p)."""
    p, q = np.array([5e6, 3e6, 2e6]), np.array([4e6, 3e6, 3e6])
    assert index_of_counts(p, q) == pytest.approx(-0.1 * np.log(0.8) + 0.1 * np.log(1.5), rel=1e-4)
