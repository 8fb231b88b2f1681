"""Columns of whatever type become counts, by bin and day."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.profiles import Bins, number_bins
from ratchet.steps import binning
from ratchet.steps.binning import bins_of, by_day, codes, counts

START = date(2024, 1, 1)


def column(*values, kind=None):
    """Return a column in two chunks."""
    array = pa.array(values, kind)
    return pa.chunked_array([array[:1], array[1:]])


@pytest.mark.parametrize(
    "values",
    [
        column(True, False, None),
        column(1, 2, None),
        column(Decimal("1.5"), Decimal("2.5"), None),
        column(1.5, float("nan"), None),
        column("a", "b", None),
        column("a", "b", None).dictionary_encode(),
        column(None, None, None, kind=pa.null()),
        column(1.5, 2.5, None, kind=pa.float32()),
    ],
)
def test_every_type_of_feature_is_counted(values):
    """Each row of each type that a query may return has one bin, and what is missing has the last."""
    bins = bins_of(values)
    found = counts(values, bins)
    assert found.sum() == len(values)
    assert found[-1] == sum(v is None or v != v for v in values.to_pylist())  # noqa: PLR0124  NaN


def test_a_column_of_another_type_is_missing():
    """Texts where training had numbers are counted as missing: nothing fails, and the drift is seen."""
    assert counts(column("1", "2"), bins_of(column(1.0, 2.0))).tolist()[-1] == 2
    assert counts(column(1.0, 2.0), Bins(kind="category", values=("a",))).tolist() == [0, 2, 0]


def test_rare_texts_are_not_kept():
    """A text that few rows have, such as a name, is no bin of its own."""
    values = column(*["often"] * 30, *["seldom"] * 5)
    assert bins_of(values, at_least=20).values == ("often",)
    assert bins_of(values).values == ("often", "seldom")


def test_the_most_frequent_texts_have_bins():
    """Of many texts the most frequent have a bin each, in an order that does not depend on that of the rows."""
    texts = [f"t{i:02d}" for i in range(30) for _ in range(i + 1)]
    assert bins_of(column(*texts)) == bins_of(column(*reversed(texts)))
    assert set(bins_of(column(*texts)).values) == {f"t{i:02d}" for i in range(10, 30)}


@pytest.mark.parametrize("fenced", [True, False])
@pytest.mark.parametrize("rows", [150_000, 1_300_001, 2_500_000])
def test_bins_of_many_rows_are_those_of_the_column_in_one_piece(rows, fenced):
    """Every so manieth number of the whole column makes them, wherever its chunks end, and its ends make the fences."""
    values = np.random.default_rng(rows).normal(size=rows)
    values[::3] = np.nan
    values[rows - 2] = 40.0  # beyond what is looked at
    chunked = pa.chunked_array([values[:7], values[7 : rows // 3], values[rows // 3 :]])
    step = -(-rows // 200_000)
    ends = [np.nanmin(values), np.nanmax(values)] if fenced and step > 1 else []
    assert bins_of(chunked, fenced=fenced) == number_bins(np.append(values[::step], ends), fenced=fenced)


rows = st.lists(st.tuples(st.integers(0, 5), st.floats(-3, 3) | st.none(), st.sampled_from(["a", "b", "c", None])))


@given(rows, st.integers(1, 7))
def test_days_add_up_whatever_the_parts(given_rows, chunk):
    """Counting by day in parts gives what counting each day alone gives; a day without rows is not there."""
    days, numbers, texts = zip(*given_rows, strict=True) if given_rows else ((), (), ())
    table = pa.table(
        {
            "dt": pa.array([START + timedelta(days=d) for d in days], pa.date32()),
            "x": pa.array(numbers, pa.float64()),
            "t": pa.array(texts, pa.string()),
        }
    )
    subjects = {
        "x": ("x", Bins(kind="number", edges=(-1.0, 0.0, 1.0))),
        "t": ("t", Bins(kind="category", values=("a", "b"))),
    }
    usual, binning._CHUNK = binning._CHUNK, chunk
    try:
        found = by_day(table, subjects)
    finally:
        binning._CHUNK = usual
    assert list(found) == sorted({START + timedelta(days=d) for d in days})
    for day, counted in found.items():
        here = table.filter(pa.array([START + timedelta(days=d) == day for d in days], pa.bool_()))
        for subject, (name, bins) in subjects.items():
            assert counted[subject] == tuple(np.bincount(codes(here[name], bins), minlength=bins.size).tolist())
