"""The samples: specs that load, and data that is the same every time."""

import gzip
import io
import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import get_args

import pyarrow.parquet as pq
import pytest

from ratchet.domain.models import Task
from ratchet.home import load_pipeline
from samples.data import SAMPLES, churn, deliveries, energy, searches, tickets

HOMES = Path(__file__).parent
FIRST, LAST = date(2024, 2, 1), date(2024, 2, 29)


@pytest.mark.parametrize("name", SAMPLES)
def test_spec_loads(name):
    """Each sample's home holds a pipeline of its name, with a suite and a query."""
    pipeline = load_pipeline(name, HOMES / name)
    assert pipeline.spec.name == name


def test_samples_cover_formats_tasks_and_partitions():
    """Together with flights, the samples meet each task, each format and both ways to date a row."""
    specs = [load_pipeline(name, HOMES / name).spec for name in SAMPLES]
    assert {spec.target.task for spec in specs} == set(get_args(Task))
    assert {spec.source.format for spec in specs} == {"parquet", "csv", "jsonl"}
    assert {spec.source.partition.by for spec in specs} == {"path", "column"}


@pytest.mark.parametrize("name", SAMPLES)
def test_objects_are_the_same_every_time(name):
    """Two ranges that overlap give the same bytes for the days that they share."""
    long, short = dict(SAMPLES[name](FIRST, LAST)), dict(SAMPLES[name](date(2024, 2, 10), date(2024, 2, 20)))
    assert short
    assert short.items() <= long.items()


def test_energy_has_two_files_a_day():
    """Forty meters' hours lie in two files a day, with text for null and meters that are not numbers."""
    files = dict(energy(FIRST, FIRST))
    assert sorted(files) == ["energy/2024/02/01/part-0.csv.gz", "energy/2024/02/01/part-1.csv.gz"]
    lines = b"".join(map(gzip.decompress, files.values())).decode().splitlines()
    assert len(lines) == 2 + 40 * 24
    assert any(";n/a;" in line for line in lines)
    assert any(line.startswith("0002;") for line in lines)


def test_tickets_have_a_rare_class_and_files_of_several_days():
    """A file holds three days; every other one is compressed; one team in a hundred tickets is legal."""
    files = dict(tickets(FIRST, LAST))
    rows = [
        [json.loads(line) for line in (gzip.decompress(data) if key.endswith(".gz") else data).decode().splitlines()]
        for key, data in files.items()
    ]
    assert {len({row["created"][:10] for row in file}) for file in rows} == {3}
    assert {key.rpartition(".")[2] for key in files} == {"gz", "jsonl"}
    teams = Counter(row["team"] for file in rows for row in file)
    assert 0.003 < teams["legal"] / teams.total() < 0.03


def test_churn_has_nulls_and_odd_categories():
    """More than a third of the fields are null, and categories hold quotes, blanks, tabs and other scripts."""
    table = pq.read_table(io.BytesIO(next(iter(churn(FIRST, FIRST)))[1]))
    assert 0.28 < table["months"].null_count / table.num_rows < 0.44
    plans = {plan for plan in table["Plan Name"].to_pylist() if plan is not None}
    assert {"", "プロ", "it's fine", 'the "good" one', "a\tb", " padded "} <= plans


def test_deliveries_spread_more_the_further_they_go():
    """What is uncertain differs between rows: a mean with a fixed span around it would not do."""
    table = pq.read_table(io.BytesIO(next(iter(deliveries(FIRST, FIRST)))[1])).to_pandas().dropna()
    far = table["kilometres"] > table["kilometres"].median()
    assert table.loc[far, "minutes"].std() > 2 * table.loc[~far, "minutes"].std()


def test_searches_hold_lists_without_an_order_and_rows_in_none():
    """Lists have 2 to 12 rows that lie scattered in the file; of some nothing was looked at."""
    rows = [json.loads(line) for line in next(iter(searches(FIRST, FIRST)))[1].decode().splitlines()]
    lists = Counter(row["search"] for row in rows)
    assert min(lists.values()) == 2
    assert max(lists.values()) == 12
    assert {row["search"] for row in rows if row["looked_at"]} < set(lists)
    assert [row["search"] for row in rows] != sorted(row["search"] for row in rows)
