"""What a file is summarised to, by real DuckDB on real Parquet."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters.duck import DuckEngine
from ratchet.domain.summaries import ALL
from ratchet.errors import DataRejected
from ratchet.tables import SummaryPlan, TableFile

DAY = date(2024, 3, 1)


@pytest.fixture
def summarise(tmp_path):
    """Summarise a table as the file of a day."""
    engine = DuckEngine(tmp_path / "cache")

    def run(table, day=DAY, without=(), name="rows.parquet", **plan):
        path = tmp_path / name
        pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path)
        asked = SummaryPlan.model_validate({"date_column": None, "target": "y", "regression": False, **plan})
        (found,) = engine.summaries([TableFile(path=path, day=day, key="lake/rows.parquet", without=without)], asked)
        return found.days if asked.date_column else found.days[0]

    return run


def hashes(found):
    """Return the hashes of a summary."""
    return {int(h): int(n) for h, n in zip(*found.sketch.unpacked(), strict=True)}


def test_missing_values_are_counted_by_type(summarise):
    """NULL counts in every column, NaN in numbers, and blank text in text."""
    found = summarise(
        {
            "y": [True, None, False],
            "number": [1.0, float("nan"), None],
            "hidden": [1.0, float("nan"), 3.0],
            "text": ["", "  ", "x"],
            "whole": [1, None, 0],
            "nothing": pa.nulls(3),
            "list": [[1], None, []],
            'the "odd", one': [None, None, "'"],
        }
    )
    assert found.rows == 3
    assert found.missing == {
        "y": 1, "number": 2, "hidden": 1, "text": 2, "whole": 1, "nothing": 3, "list": 1, 'the "odd", one': 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("y", "classes", "unlabelled"),
    [
        ([True, True, False, None], {"true": 2, "false": 1}, 1),
        ([0, 1, 1, 1], {"0": 1, "1": 3}, 0),
        (["a b", "ä", None, None], {"a b": 1, "ä": 1}, 2),
    ],
)
def test_labels_are_counted_by_class(summarise, y, classes, unlabelled):
    """Each class is counted, whatever its type, and rows without a label apart."""
    labels = summarise({"y": y}).labels
    assert (labels.classes, labels.unlabelled) == (classes, unlabelled)


def test_labels_of_a_regression_are_added_up(summarise):
    """Numbers are added up; what is none is not."""
    labels = summarise({"y": [1.5, 2.5, None, float("inf")]}, regression=True).labels
    assert (labels.total, labels.unlabelled, labels.classes) == (4.0, 1, None)
    assert summarise({"y": [Decimal("1.10"), Decimal("2.20")]}, regression=True).labels.total == pytest.approx(3.3)


def test_a_target_that_the_file_does_not_tell_is_unknown(summarise):
    """A target that cannot be computed here, or that has no classes, says nothing; the features query has more to say of it."""
    assert summarise({"x": [1]}).labels is None
    assert summarise({"y": list(range(2000))}).labels is None
    assert summarise({"y": ["x"]}, regression=True).labels is None


def test_a_target_may_name_our_columns(summarise):
    """The target sees the row's day, as it does in the features query."""
    assert summarise({"y": [1, 2]}, target="dt = DATE '2024-03-01'").labels.classes == {"true": 2}


def test_rows_that_are_left_out_do_not_count(summarise):
    """What is in quarantine row by row is not summarised."""
    found = summarise({"y": [True, False, None]}, without=(1, 2))
    assert (found.rows, found.labels.classes) == (1, {"true": 1})


def test_a_column_that_is_ignored_is_not_read(summarise):
    """A column that the spec ignores makes no difference, not even between rows."""
    one, other = ({"y": [1], "x": [n]} for n in (1, 2))
    assert hashes(summarise(one, ignore=("X",))) == hashes(summarise(other, ignore=("X",)))
    assert hashes(summarise(one)) != hashes(summarise(other))


def test_rows_are_told_by_the_day_that_they_carry(summarise):
    """Where a column dates the rows each day has a summary of its own."""
    at = [datetime(2024, 3, d, 12, tzinfo=UTC) for d in (2, 1, 2)]
    days = summarise({"at": at, "y": [1, 2, 3]}, day=None, date_column="at")
    assert [(d.day.day, d.rows, d.labels.classes) for d in days] == [(1, 1, {"2": 1}), (2, 2, {"1": 1, "3": 1})]
    assert [sum(hashes(d).values()) for d in days] == [1, 2]


def test_the_same_row_has_the_same_hash_in_any_file(summarise):
    """Neither the order of rows and columns nor the width of a number makes a row another."""
    one = {"y": pa.array([1, 2], pa.int32()), "x": pa.array([0.5, None], pa.float32()), "t": ["a", ""]}
    other = {"t": ["", "a"], "Y": pa.array([2, 1], pa.int64()), "x": pa.array([None, 0.5], pa.float64())}
    assert hashes(summarise(one)) == hashes(summarise(other, name="other.parquet"))


def test_rows_of_any_type_are_told_apart(summarise):
    """Dates, decimals, lists and records are part of a row."""
    table = {
        "day": [DAY, DAY, DAY],
        "money": [Decimal("1.10"), Decimal("1.10"), Decimal("1.11")],
        "list": [[1, 2], [1, 2], [1, 2]],
        "record": [{"a": 1}, {"a": 1}, {"a": 1}],
    }
    assert sorted(hashes(summarise(table)).values()) == [1, 2]


def test_a_key_names_the_rows(summarise):
    """With a key only its columns count, and rows without it name nothing."""
    found = hashes(summarise({"id": [1, 1, 2, None], "x": [1, 2, 3, 4]}, key=("ID",)))
    assert sorted(found.values()) == [1, 2]
    assert summarise({"x": [1]}, key=("id",)).sketch is None


def test_many_rows_are_sampled_evenly(summarise):
    """Of a large file about a thousand rows are kept, and of the same rows the same ones."""
    rows = np.arange(50_000)
    found, again = (summarise({"y": part}, name=f"{len(part)}.parquet") for part in (rows, rows[:25_000]))
    assert found.sketch.bound < ALL
    assert len(hashes(found)) == pytest.approx(1024, rel=0.15)
    common = {h for h in hashes(found) if h < again.sketch.bound}
    below = {h for h in hashes(again) if h < found.sketch.bound}
    assert len(below & common) == len(below) == pytest.approx(512, rel=0.2)


@pytest.mark.parametrize("kind", ["timestamp", "date", "text", "zoned"])
def test_rows_from_the_future_are_counted_and_named(summarise, kind):
    """An event after the partition's own day is from the future; the day's last second is not."""
    end = datetime(2024, 3, 1, 23, 59, 59, tzinfo=UTC)
    at = [end, end + timedelta(seconds=1), None, end + timedelta(days=40)]
    columns = {
        "timestamp": pa.array([a and a.replace(tzinfo=None) for a in at], pa.timestamp("us")),
        "date": pa.array([a and a.date() for a in at], pa.date32()),
        "text": pa.array([a and f"{a:%Y-%m-%d %H:%M:%S}" for a in at]),
        "zoned": pa.array(at, pa.timestamp("us", tz="UTC")),
    }
    found = summarise({"seen at": columns[kind], "y": [1, 1, 1, 1]}, event_time="seen at")
    assert (found.future, found.future_rows) == (2, (2, 4))
    later = summarise({"seen at": columns[kind]}, event_time="seen at", event_slack_hours=24.0)
    assert (later.future, later.future_rows) == (1, (4,))


def test_times_that_no_zone_explains_are_counted(summarise):
    """Of each column that holds times, those after tomorrow are counted; text is none."""
    at = [datetime(2024, 3, d, 12, tzinfo=UTC) for d in (1, 2, 3)] + [None]
    found = summarise(
        {
            "zoned": pa.array(at, pa.timestamp("us", tz="UTC")),
            "date": pa.array([a and a.date() for a in at], pa.date32()),
            "text": ["2099-01-01"] * 4,
            "never": pa.array([None] * 4, pa.timestamp("ms")),
        }
    )
    assert found.ahead == {"zoned": 1, "date": 1, "never": 0}


def test_a_date_that_no_time_reaches_is_read(summarise):
    """A date beyond what a timestamp can hold ends no night."""
    far = pa.array([5_000_000 + 2**30, 0], pa.int32()).cast(pa.date32())
    assert summarise({"far": far}).ahead == {"far": 0}


@pytest.mark.parametrize("column", [[1, 2], ["yesterday", "soon"], ["2024-03-01", "soon"]])
def test_a_column_that_tells_no_time_says_nothing(summarise, column):
    """A number or any text is no time; nor is a column that is not there."""
    assert summarise({"at": column}, event_time="at").future is None
    assert summarise({"x": column}, event_time="at").future is None


def test_no_value_of_a_row_is_kept(summarise):
    """A summary holds counts, hashes and names of columns and classes, never what a row says."""
    table = {"name": ["Ada Lovelace", "Grace Hopper"], "phone": [5550101, 5550102], "y": [True, False]}
    text = summarise(table).model_dump_json()
    assert not re.search("Ada|Grace|55501", text)


def test_a_file_that_cannot_be_read_is_corrupt(tmp_path):
    """A file that is none any more ends the night with its key."""
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 no more")
    plan = SummaryPlan(date_column=None, target="y", regression=False)
    with pytest.raises(DataRejected, match="corrupt: lake/x"):
        DuckEngine(tmp_path).summaries([TableFile(path=path, day=DAY, key="lake/x")], plan)


def test_the_same_file_gives_the_same_summary(summarise):
    """Summaries are the same bit for bit, sums of floats included."""
    random = np.random.default_rng(7)
    table = {"y": random.normal(size=200_000), "x": random.choice(["a", "b"], 200_000)}
    assert summarise(table, regression=True) == summarise(table, regression=True)
