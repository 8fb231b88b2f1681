"""Tables as the engine reads them, what it is asked of them, and the frame of features that comes of it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ratchet.domain.records import Record
from ratchet.domain.snapshots import SourceFormat
from ratchet.domain.windows import Span

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Floats = np.ndarray[Any, np.dtype[np.float64]]


class FileFormat(Record):
    """How source files of a table are written."""

    format: SourceFormat
    columns: Mapping[str, str] = {}  # column → DuckDB type, for CSV and JSON Lines; others are sniffed
    null_values: tuple[str, ...] = ("",)
    delimiter: str = ","


class FileProfile(Record):
    """What one source file holds."""

    rows: int
    columns: Mapping[str, str]  # column → DuckDB type, in the file's order
    days: tuple[date, ...] | None = None  # each once and in order, where the table has a date column
    empty: tuple[str, ...] = ()  # columns without any value


class TableFile(Record):
    """One readable file of a table, and the day it stands for."""

    path: Path  # Parquet, as Engine.load left it
    day: date | None  # None where the rows carry their date
    key: str  # the source object's key, for messages
    without: tuple[int, ...] = ()  # rows, from 0, that are in quarantine


class TableFiles(Record):
    """One table of a snapshot, readable."""

    files: tuple[TableFile, ...]
    date_column: str | None = None  # the column that dates the rows, where files are not dated by path
    days: Span | None = None  # read only these days
    ignore: tuple[str, ...] = ()  # columns that are not read


class Cut(Record):
    """A moment of the past, as whose the tables are shown: half of the events of a day have happened by then."""

    day: date
    times: Mapping[str, str]  # table → column of when a row became known; "rows" is among them


class FeatureQuery(Record):
    """What the features query is run over."""

    tables: Mapping[str, TableFiles]  # "rows" and the side tables
    sql: str
    hidden: tuple[str, ...]  # columns of rows that the query cannot see: unknown at prediction time
    target: str  # SQL expression over all columns of rows; NULL where there is no label
    group: str | None = None  # of a ranking: SQL expression of the list that a row stands in, likewise
    cut: Cut | None = None  # show the tables as they were at this moment


_STRETCH = 250_000  # rows of a frame that are looked at together
GROUP = "ratchet.group"  # column of a frame that tells a ranking's lists apart; no feature is called that
LABELS = ("row_id", "dt", "target", GROUP)  # columns of a frame that are no features


class FeatureFrame(Record):
    """The features of labelled rows.

    ``table`` has ``row_id`` (BIGINT, unique in the snapshot), ``dt`` (DATE), ``target`` and the features in the query's
    order, sorted by ``row_id``; of a ranking, there is ``GROUP`` besides, the rows are sorted by day, list and ``row_id``, and a
    list lies in one day. ``landed`` rows were read; ``unlabelled`` had no target; ``dropped`` the query left out.
    ``quarantined`` rows of the files were left out one by one, and ``outside`` ones because they are dated to other days.

    The table of a kept frame lies in a file that is mapped into memory: what is looked at takes memory, as long as the system
    has some to spare, and what is not takes none. Who goes through many rows does so by ``batches``, which gives it back.
    """

    model_config = {"arbitrary_types_allowed": True, "frozen": True, "extra": "forbid"}

    table: Any  # pyarrow.Table
    landed: int
    unlabelled: int
    dropped: int
    columns: Mapping[str, Mapping[str, str]]  # table → column → DuckDB type, as the query read them
    quarantined: int = 0
    outside: int = 0
    mapped: Any = Field(None, exclude=True, repr=False)  # the mmap of the file in which the table lies

    @classmethod
    def of_file(cls, file: Path, **counts: Any) -> FeatureFrame:
        """Map an Arrow file; ``counts`` are the other fields."""
        import pyarrow as pa  # noqa: PLC0415

        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(table=pa.ipc.open_file(pa.py_buffer(mapped)).read_all(), mapped=mapped, **counts)

    def days(self, first: date, last: date, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of some days, all columns or some; where the rows are in order of days, without a copy."""
        return rows_of_days(self.table, first, last, columns)

    def count(self, days: Span) -> int:
        """Count the rows of some days."""
        return int(self.days(days.first, days.last, ("dt",)).num_rows)

    def spread(self, first: date, last: date, rows: int) -> pa.Table:
        """Return at most so many rows of some days, evenly over all of them."""
        import numpy as np  # noqa: PLC0415
        import pyarrow as pa  # noqa: PLC0415

        where = _where(self.table, first, last)
        count = where.stop - where.start if isinstance(where, slice) else len(where)
        wanted = np.linspace(0, count - 1, min(count, rows)).astype(np.int64)
        wanted = where.start + wanted if isinstance(where, slice) else where[wanted]
        found, start = [], 0
        for batch in self.table.to_batches():  # of a table Arrow would copy whole columns to take a few rows
            here = wanted[slice(*np.searchsorted(wanted, (start, start + batch.num_rows)))]
            if len(here):
                found.append(batch.take(pa.array(here - start)))
                self.forget()  # few rows of many pages
            start += batch.num_rows
        return pa.Table.from_batches(found, self.table.schema)

    def batches(self, first: date, last: date, rows: int = _STRETCH) -> Iterator[pa.Table]:
        """Yield the rows of some days in order, so many at a time; what a batch took is given back when the next one is asked for."""
        import pyarrow.compute as pc  # noqa: PLC0415

        for start, end in self._cuts(rows):
            batch = self.table.slice(start, end - start)
            dt = batch["dt"]
            here = pc.and_(pc.greater_equal(dt, first), pc.less_equal(dt, last))
            some, every = pc.any(here).as_py(), pc.all(here).as_py()
            if some:
                yield batch if every else batch.filter(here)
            self.forget()

    def _cuts(self, rows: int) -> Iterator[tuple[int, int]]:
        """Yield where batches start and end: after so many rows, and of a ranking, where the list of the last one ends."""
        start, total = 0, self.table.num_rows
        while start < total:
            end = min(start + rows, total)
            if GROUP in self.table.column_names:
                lists = self.table[GROUP]
                while end < total and lists[end] == lists[end - 1]:
                    end += 1
            yield start, end
            start = end

    def forget(self) -> None:
        """Give back the memory that mapped rows take; they are read again where they are looked at again."""
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


def rows_of_days(table: pa.Table, first: date, last: date, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a table that its column ``dt`` dates to some days; where they are in order of days, without a copy."""
    where = _where(table, first, last)
    shown = table if columns is None else table.select(columns)
    return shown.slice(where.start, where.stop - where.start) if isinstance(where, slice) else shown.take(where)


def lists_in(table: pa.Table) -> Any:
    """Return the number of each row's list, from 0; None where rows stand in no lists."""
    if GROUP not in table.column_names:
        return None
    return table[GROUP].combine_chunks().dictionary_encode().indices.to_numpy()


def _where(table: pa.Table, first: date, last: date) -> Any:
    """Return where some days' rows are: a slice, or where they lie scattered, an array of their numbers."""
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    days = table["dt"].cast(pa.int32()).to_numpy()
    epoch = date(1970, 1, 1)
    low, high = (first - epoch).days, (last - epoch).days
    if (days[1:] < days[:-1]).any():  # rows that carry their dates may lie in any order
        return np.flatnonzero((days >= low) & (days <= high))
    start, end = np.searchsorted(days, [low, high + 1])
    return slice(int(start), int(max(end, start)))


class SummaryPlan(Record):
    """What a file is asked, so that it can be compared with others without reading it again."""

    date_column: str | None  # which dates the rows, where the file is not dated by its path
    target: str  # SQL expression
    regression: bool
    ignore: tuple[str, ...] = ()  # columns that are not read
    key: tuple[str, ...] = ()  # columns that name a row; none: all
    event_time: str | None = None
    event_slack_hours: float = 0.0
