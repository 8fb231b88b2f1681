"""Feature frames in memory and in files: whatever way the rows are looked at, they are the same rows."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.tables import FeatureFrame

FIRST = date(2024, 5, 1)
COUNTS = {"landed": 0, "unlabelled": 0, "dropped": 0, "columns": {}}


def day(number):
    """Return a day by its number."""
    return FIRST + timedelta(days=number)


def table(numbers):
    """Return rows of some days."""
    n = len(numbers)
    dt = pa.array([day(number) for number in numbers], pa.date32())
    return pa.table({"row_id": pa.array(range(n), pa.int64()), "dt": dt, "x": pa.array([f"x{i}" for i in range(n)])})


def filtered(rows, first, last):
    """Return rows of some days the plain way."""
    return rows.filter(pc.and_(pc.greater_equal(rows["dt"], first), pc.less_equal(rows["dt"], last)))


def in_file(rows, path, size=3):
    """Return rows as a frame that lies in a file, in batches."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=size)
    return FeatureFrame.of_file(path, **COUNTS)


@given(
    numbers=st.lists(st.integers(0, 6), max_size=40),
    ordered=st.booleans(),
    first=st.integers(-1, 7),
    length=st.integers(0, 5),
    size=st.integers(1, 50),
)
def test_the_rows_of_some_days_are_those_that_a_filter_finds(numbers, ordered, first, length, size):
    """In order of days or not, as a whole, batch by batch, and column by column."""
    rows = table(sorted(numbers) if ordered else numbers)
    frame, span = FeatureFrame(table=rows, **COUNTS), (day(first), day(first + length))
    wanted = filtered(rows, *span)
    assert frame.days(*span).equals(wanted)
    assert frame.days(*span, ("x",)).equals(wanted.select(["x"]))
    assert pa.concat_tables([rows.slice(0, 0), *frame.batches(*span, size)]).equals(wanted)
    assert all(0 < batch.num_rows <= size for batch in frame.batches(*span, size))


@given(numbers=st.lists(st.integers(0, 6), max_size=40), most=st.integers(1, 60))
def test_rows_that_are_spread_reach_from_the_first_to_the_last(numbers, most):
    """No more than asked for, each once and in order, both ends among them; all rows where there are no more."""
    rows = table(numbers)
    wanted = filtered(rows, day(1), day(5))["row_id"].to_pylist()
    found = FeatureFrame(table=rows, **COUNTS).spread(day(1), day(5), most)["row_id"].to_pylist()
    assert len(found) == min(most, len(wanted))
    assert found == [row for row in wanted if row in set(found)]
    assert not found or found[0] == wanted[0]
    assert len(found) < 2 or found[-1] == wanted[-1]


@pytest.mark.parametrize("ordered", [True, False])
def test_rows_that_are_spread_over_many_are_taken_stretch_by_stretch(ordered, tmp_path):
    """Of a million rows, those that a plain pick of places finds, in order, and without a copy of a whole column."""
    n = 1_000_000
    numbers = np.sort(np.arange(n) % 7) if ordered else np.arange(n) % 7
    dt = pa.array(np.datetime64(FIRST) + numbers).cast(pa.date32())
    rows = pa.table({"row_id": np.arange(n), "dt": dt, "x": np.arange(n, dtype=np.float64)})
    found = in_file(rows, tmp_path / "frame.arrow", 122_880).spread(day(1), day(5), 1000)
    there = filtered(rows, day(1), day(5))
    assert found.equals(there.take(np.linspace(0, there.num_rows - 1, 1000).astype(np.int64)))
    alone = subprocess.run(
        [sys.executable, "-c", _MOST_ALLOCATED, str(tmp_path / "frame.arrow"), str(day(1)), str(day(5))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(alone.stdout) < 7 << 20  # a column is 8 MB


_MOST_ALLOCATED = """
import sys
from datetime import date
from pathlib import Path
import pyarrow as pa
from ratchet.tables import FeatureFrame
frame = FeatureFrame.of_file(Path(sys.argv[1]), landed=0, unlabelled=0, dropped=0, columns={})
frame.spread(date.fromisoformat(sys.argv[2]), date.fromisoformat(sys.argv[3]), 1000)
print(pa.default_memory_pool().max_memory())
"""


def test_rows_in_a_file_stay_what_they_are_when_their_memory_is_given_back(tmp_path):
    """What is read again is the same, by those too who have looked at it before."""
    rows = table([0, 1, 1, 2, 2, 2, 3])
    frame = in_file(rows, tmp_path / "frame.arrow")
    before = frame.days(day(1), day(2))
    frame.forget()
    assert before.equals(filtered(rows, day(1), day(2)))
    assert frame.table.equals(rows)


def test_a_file_may_be_deleted_while_its_rows_are_used(tmp_path):
    """A cache that makes room takes nothing from a night that runs."""
    rows = table([0, 1, 2, 3])
    frame = in_file(rows, tmp_path / "frame.arrow")
    (tmp_path / "frame.arrow").unlink()
    assert next(frame.batches(day(2), day(3))).equals(rows.slice(2))


def test_going_through_a_file_keeps_no_more_than_a_batch_in_memory(tmp_path):
    """Of 80 MB that were read, what stays resident is a small part."""
    n = 1_000_000
    rows = pa.table(
        {"dt": pa.array([FIRST] * n, pa.date32()), **{f"x{i}": np.arange(n, dtype=np.float64) for i in range(10)}}
    )
    frame = in_file(rows, tmp_path / "frame.arrow", 10_000)
    del rows
    most = 0
    for batch in frame.batches(FIRST, FIRST, 10_000):
        assert pc.sum(batch["x9"]).as_py() > 0
        most = max(most, resident(tmp_path / "frame.arrow"))
    assert most < 20 << 20


def resident(path):
    """Return how many bytes of a mapped file this process holds in memory, as the system counts them."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.endswith(str(path)):
            return next(int(text.split()[1]) * 1024 for text in lines if text.startswith("Rss:"))
    pytest.fail(f"{path} is not mapped")
