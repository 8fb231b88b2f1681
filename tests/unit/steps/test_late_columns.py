"""Nights over CSV files of which a column is empty for a long time, and then holds numbers."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
import yaml
from small_world import FIRST, NIGHT, SPEC, World, partition

DAY = timedelta(days=1)


@pytest.fixture
def world(tmp_path):
    """Return a world of CSV files whose column z is empty, and a champion that was fitted on them."""
    spec = yaml.safe_load(SPEC)
    spec["source"]["format"] = "csv"
    world = World(tmp_path, yaml.safe_dump(spec))
    for i in range((NIGHT - FIRST).days + 1):
        land(world, FIRST + i * DAY, empty=True)
    assert world.night().outcome == "promoted"
    return world


def land(world, day, *, empty):
    """Land a day as CSV, z without values where it is to be empty."""
    rows = pq.read_table(io.BytesIO(partition(day))).to_pylist()
    text = io.StringIO()
    made = csv.DictWriter(text, list(rows[0]))
    made.writeheader()
    made.writerows([{**row, "z": "" if empty else row["z"]} for row in rows])
    world.store.put(f"s3://lake/rows/dt={day}/part.csv", text.getvalue().encode())


def test_a_champion_is_compared_when_an_empty_column_begins_to_hold_numbers(world):
    """It reads the new numbers as missing, as all it learnt from was; so it is scored, and its challengers are compared with it."""
    for i in (1, 2, 3):
        land(world, NIGHT + i * DAY, empty=False)
    night = world.night(NIGHT + 3 * DAY)
    assert [v.problem for v in night.score.versions] == [None]
    assert night.evaluate.common_rows
    assert not [reason for reason in night.reasons if "trained on a category" in reason]
