"""Bounds of a drafted suite lie around history, and as far out as its partitions differ."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.suite_draft import ColumnFigures, PartitionFigures, propose

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


def partition(i, rows=100, **columns):
    return PartitionFigures(name=f"p{i}", weekday=i % 7, rows=rows, columns=columns)


def number(least, most, mean=None, values=100, kind="DOUBLE"):
    mean = (least + most) / 2 if mean is None else mean
    return ColumnFigures(type=kind, values=values, distinct=values, least=least, most=most, mean=mean)


def text(*categories, values=100):
    return ColumnFigures(
        type="VARCHAR", values=values, distinct=len(categories), shortest=1, longest=1, categories=categories
    )


def drafted(history, column="x"):
    """Return the expectations about a column by type."""
    suite = propose("s", history, [])
    return {e["type"]: e for e in suite["expectations"] if e["kwargs"].get("column") == column}


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=7, max_size=30))
def test_bounds_hold_all_that_was_seen(pairs):
    """Whatever history was, no value and no mean of it lies outside of what is proposed."""
    history = [partition(i, x=number(min(pair), max(pair))) for i, pair in enumerate(pairs)]
    found = drafted(history)
    for kind, low, high in (
        ("expect_column_values_to_be_between", min(map(min, pairs)), max(map(max, pairs))),
        ("expect_column_mean_to_be_between", min(p.columns["x"].mean for p in history), max(p.columns["x"].mean for p in history)),
    ):  # fmt: skip
        if kind in found:
            bounds = found[kind]["kwargs"]
            assert bounds["min_value"] <= low
            assert bounds["max_value"] >= high


def test_what_was_never_negative_stays_so():
    """Room is not given across zero."""
    history = [partition(i, x=number(1 + i % 3, 50 + 9 * (i % 4))) for i in range(14)]
    assert drafted(history)["expect_column_values_to_be_between"]["kwargs"]["min_value"] >= 0


def test_a_column_that_goes_one_way_has_no_bounds():
    """Ids, and numbers of days and months, leave all their past."""
    days = [partition(i, x=number(i, i)) for i in range(14)]
    months = [partition(i, x=number(1 + i // 10, 1 + i // 10)) for i in range(14)]
    for history in (days, months):
        assert "expect_column_values_to_be_between" not in drafted(history)


def test_categories_are_critical_once_they_have_settled():
    """While new ones still come, one more only warns."""
    settled = [partition(i, x=text("a", "b")) for i in range(10)]
    growing = [partition(i, x=text("a", "b") if i < 9 else text("c")) for i in range(10)]
    kind = "expect_column_values_to_be_in_set"
    assert (drafted(settled)[kind]["severity"], drafted(growing)[kind]["severity"]) == ("critical", "warning")


def test_nothing_critical_is_asked_of_values_that_may_be_missing_altogether():
    """A critical expectation that meets no value rejects its partition; history has shown that this happens."""
    empty = ColumnFigures(type="DOUBLE", values=0, distinct=0)
    found = drafted([partition(i, x=number(0, 1) if i % 3 else empty) for i in range(12)])
    assert found["expect_column_values_to_be_between"]["severity"] == "warning"
    assert "expect_column_values_to_not_be_null" not in found


def test_a_column_that_is_not_in_all_partitions_is_told_and_not_asked_for():
    """It came or went; the note says so."""
    suite = propose("s", [partition(i, x=number(0, 1), **({"y": number(0, 1)} if i else {})) for i in range(9)], [])
    columns = suite["expectations"][0]
    assert columns["kwargs"]["column_set"] == ["x"]
    assert "Not in all of them, and so not asked for: y" in columns["meta"]["notes"]
