"""Slices of a column: each value is one of its own, that of rows without any too."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ratchet.steps.measures import Slices

TEXTS = st.one_of(st.none(), st.sampled_from(["NULL", "'NULL'", "''NULL'", "None", "null", ""]), st.text(max_size=3))


@given(st.lists(TEXTS, min_size=1, max_size=30))
def test_no_two_values_are_one_slice(values):
    """A text that reads like NULL is told apart from no value at all."""
    found = {name: here.nonzero()[0].tolist() for name, here in Slices(pa.table({"c": values}), "c").among()}
    assert sorted(found.values()) == sorted([i for i, v in enumerate(values) if v == value] for value in set(values))


def test_rows_without_a_value_are_the_slice_null():
    """As the features query calls it, of every type; the text keeps its quotes."""
    texts = pa.table({"c": [None, "NULL", "None", "JFK"]})
    assert Slices(texts, "c").texts.to_pylist() == ["NULL", "'NULL'", "None", "JFK"]
    assert Slices(pa.table({"c": [None, 3, 3]}), "c").texts.to_pylist() == ["NULL", "3", "3"]
