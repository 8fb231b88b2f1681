"""How quiet the checks over the window are in a real year, and what they find when a day is damaged.

    python benchmarks/window_checks.py

The demo's pipeline with its defaults, each night of 2013 with enough days behind it: what it would have told. Then every ninth
night again with its newest day damaged in one way at a time. Prints Markdown.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ratchet.adapters.duck import DuckEngine
from ratchet.demo.feed import land
from ratchet.domain.summaries import Part
from ratchet.domain.window_checks import findings
from ratchet.home import load_pipeline
from ratchet.tables import SummaryPlan, TableFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ratchet.domain.snapshots import StoredObject

DAY = timedelta(days=1)
FIRST, LAST = date(2013, 1, 31), date(2013, 12, 31)
EVERY = 9  # nights between two that are damaged


class Lake:
    """Keeps the flights that the demo lands, by day."""

    def __init__(self) -> None:
        self.flights: dict[date, pa.Table] = {}

    def list(self, _uri: str) -> Iterator[StoredObject]:
        """List nothing: all days are to be landed."""
        return iter(())

    def put(self, uri: str, data: bytes, content_type: str = "") -> None:  # noqa: ARG002
        """Keep a day's flights."""
        if "/flights/" in uri:
            self.flights[date.fromisoformat(uri.split("dt=")[1][:10])] = pq.read_table(io.BytesIO(data))


class Year:
    """The demo's days, summarised."""

    def __init__(self, folder: Path) -> None:
        self.spec = load_pipeline("flight_delay").spec
        self.checks = self.spec.validation.window
        self.plan = SummaryPlan(date_column=None, target=self.spec.target.sql, regression=False)
        self.engine, self.folder = DuckEngine(folder / "cache"), folder
        lake = Lake()
        land(lake, through=LAST)
        self.tables = dict(sorted(lake.flights.items()))
        started = time.perf_counter()
        self.parts = {day: self.part(day, table) for day, table in self.tables.items()}
        self.seconds = (time.perf_counter() - started) / len(self.parts)

    def part(self, day: date, table: pa.Table) -> Part:
        """Summarise a day's rows."""
        path = self.folder / "day.parquet"
        out = io.BytesIO()
        pq.write_table(table, out)
        path.write_bytes(out.getvalue())
        (found,) = self.engine.summaries([TableFile(path=path, day=day, key=f"flights/dt={day}")], self.plan)
        return Part(f"flights/dt={day}", found.days[0])

    def night(self, cutoff: date, newest: Part | None = None) -> Counter[str]:
        """Return what a night tells, by kind and action."""
        cut = self.spec.windows(cutoff)
        there = {day: part for day, part in self.parts.items() if day in cut.whole}
        parts = [*there.values()] if newest is None else [*{**there, cutoff: newest}.values()]
        return Counter(f"{f.kind} ({f.action})" for f in findings(parts, cut, frozenset({cutoff}), self.checks))


def days(first: date, last: date) -> list[date]:
    """Return all days of a range."""
    return [first + DAY * i for i in range((last - first).days + 1)]


def without(table: pa.Table, column: str, share: float) -> pa.Table:
    """Leave a share of a column's values out."""
    gone = pa.array(np.arange(table.num_rows) < share * table.num_rows)
    values = pc.if_else(gone, pa.scalar(None, table[column].type), table[column])
    return table.set_column(table.column_names.index(column), column, values)


def late(table: pa.Table, value: float) -> pa.Table:
    """Let every flight that arrived be so many minutes late."""
    delay = pc.if_else(pc.is_valid(table["arr_delay"]), pa.scalar(value, table["arr_delay"].type), table["arr_delay"])
    return table.set_column(table.column_names.index("arr_delay"), "arr_delay", delay)


def damages(year: Year, day: date) -> Mapping[str, Callable[[pa.Table], pa.Table]]:
    """Return ways in which a day can be wrong while each of its rows is right."""
    before = year.tables[day - 14 * DAY]
    return {
        "40 % of the rows": lambda table: table.slice(0, int(0.4 * table.num_rows)),
        "every row twice": lambda table: pa.concat_tables([table, table]),
        "every row ten times": lambda table: pa.concat_tables([table] * 10),
        "the file of another day": lambda _: before,
        "5 % of the rows from another day": lambda table: pa.concat_tables(
            [table, before.slice(0, table.num_rows // 20)]
        ),
        "5 % of the rows twice": lambda table: pa.concat_tables([table, table.slice(0, table.num_rows // 20)]),
        "a fifth of `distance` missing": lambda table: without(table, "distance", 0.2),
        "`carrier` missing": lambda table: without(table, "carrier", 1.0),
        "all flights in time": lambda table: late(table, 0),
        "all flights late": lambda table: late(table, 60),
    }


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        year = Year(Path(folder))
        nights = days(FIRST, LAST)
        started = time.perf_counter()
        told = {cutoff: found for cutoff in nights if (found := year.night(cutoff))}
        took = (time.perf_counter() - started) / len(nights)
        print(f"| {len(nights)} nights as they were | found |\n|---|---|")
        print("\n".join(f"| {cutoff} | {', '.join(found)} |" for cutoff, found in told.items()))
        print(
            f"\nA partition is summarised in {1000 * year.seconds:.0f} ms, a night compared in {1000 * took:.0f} ms.\n"
        )
        hit: Counter[str] = Counter()
        kinds: dict[str, Counter[str]] = {}
        damaged = [day for day in nights if day >= date(2013, 4, 1)][::EVERY]
        for day in damaged:
            for name, damage in damages(year, day).items():
                found = year.night(day, year.part(day, damage(year.tables[day])))
                hit[name] += bool(found)
                kinds.setdefault(name, Counter()).update(found)
        print(f"| newest day damaged | found, of {len(damaged)} nights | as |\n|---|---|---|")
        for name, count in hit.items():
            print(f"| {name} | {count} | {', '.join(kind for kind, _ in kinds[name].most_common())} |")


if __name__ == "__main__":
    main()
