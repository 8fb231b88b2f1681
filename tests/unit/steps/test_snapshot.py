"""Snapshots: which objects are a table's, and of which days they are."""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml
from small_world import DAYS, FIRST, NIGHT, ROWS, SPEC, World, partition

from ratchet.steps import pinned
from ratchet.steps.listing import match

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("pattern", "below", "day"),
    [
        ("dt={date}/", "dt=2024-01-02/a.csv", "2024-01-02"),
        ("dt={date}/", "region=eu/dt=2024-01-02/a.csv", "2024-01-02"),
        ("dt={date}/", "created_dt=2023-05-06/dt=2024-01-02/a.csv", "2024-01-02"),
        ("{date}.csv", "sales_2024-01-02.csv", "2024-01-02"),
        ("{date}", "2024-01-02.csv", "2024-01-02"),
        ("{yyyy}/{mm}/{dd}/", "2024/01/02/a.csv", "2024-01-02"),
        ("{yyyy}{mm}{dd}", "run_120240102.csv", None),
        ("{yyyy}{mm}{dd}", "run_202401025.csv", None),
        ("{date}.csv", "12024-01-02.csv", None),
        ("{yyyy}/{yyyy}-{mm}-{dd}.csv", "2024/2024-01-02.csv", "2024-01-02"),
        ("{yyyy}/{date}.csv", "2023/2024-01-02.csv", None),
        ("{date}/{date}.csv", "2024-01-02/2024-01-03.csv", None),
        ("dt={date}/", "dt=2024-01/a.csv", None),
    ],
)
def test_a_pattern_finds_the_day_anywhere_below_the_prefix(pattern, below, day):
    """The day is found where a name begins or within one, never inside a longer number, and a part that stands twice agrees."""
    found = match(pattern, below)
    assert (found and "{y}-{m}-{d}".format_map(found.groupdict())) == day


def flat(folder) -> World:
    """A world whose days lie side by side, each named by its day."""
    world = World(folder)
    for i in range((NIGHT - FIRST).days + 1):
        day = FIRST + timedelta(days=i)
        world.store.put(f"s3://lake/rows/sales_{day}.parquet", partition(day))
    return world


def test_files_named_by_their_day_are_read(tmp_path):
    """A pattern need not begin where a name begins."""
    world = flat(tmp_path)
    night = world.night(pipeline=world.pipeline(source__partition={"by": "path", "pattern": "{date}.parquet"}))
    assert (night.outcome, night.snapshot.partitions) == ("promoted", 8)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            {},
            (
                "none of the 8 objects under s3://lake/rows/ is read; 8 without source.partition.pattern 'dt={date}/' in the key below it, "
                "such as 's3://lake/rows/sales_2024-03-01.parquet'. To mend it, write the pattern as the keys have it"
            ),
        ),
        (
            {"source__format": "csv"},
            (
                "8 not ending in .csv, .csv.gz (source.format: csv), such as 's3://lake/rows/sales_2024-03-01.parquet'. "
                "To mend it, set source.format"
            ),
        ),
    ],
)
def test_objects_that_the_spec_does_not_fit_reject_the_night(tmp_path, overrides, words):
    """Objects that are there and all left out are a mistake in the spec, told with the pattern, the endings and a key."""
    world = flat(tmp_path)
    night = world.night(pipeline=world.pipeline(**overrides))
    assert (night.outcome, night.ended.reason) == ("rejected", "unmatched")
    assert words in night.ended.detail


def test_nothing_but_markers_is_no_mistake_in_the_spec(tmp_path):
    """A prefix that holds markers only has no data yet: the night is skipped."""
    world = World(tmp_path)
    world.store.put("s3://lake/rows/_SUCCESS", b"")
    assert world.night().outcome == "skipped"


def test_days_in_the_rows_are_counted_as_they_are(tmp_path):
    """Where rows carry their dates, the days between that have no row are no days of data, and a file of none in the window is left out."""
    world = World(tmp_path)
    for name, days in (
        ("a", [FIRST, NIGHT, FIRST]),
        ("b", [NIGHT, NIGHT - DAY, NIGHT]),
        ("c", [FIRST - DAY, NIGHT + DAY]),
    ):
        world.store.put(f"s3://lake/rows/{name}.parquet", partition(FIRST, len(days), at=days))
    pipeline = world.pipeline(source__partition={"by": "column", "column": "at"})
    night = world.night(pipeline=pipeline)
    assert night.outcome == "skipped"
    assert (
        "3 days of data under s3://lake/rows/ in 2024-03-01 … 2024-03-08, window.min_partitions is 4"
        in night.reasons[0]
    )
    world.store.put("s3://lake/rows/d.parquet", partition(FIRST, 1, at=[FIRST + DAY]))
    found = world.until("validate", pipeline=pipeline).snapshot
    assert (found.partitions, found.objects) == (4, 3)


def test_days_that_cannot_be_told_reject_the_night_and_are_named(tmp_path):
    """Where rows carry their dates, and these are written otherwise, the night says so, instead of waiting for days that are there."""
    world = World(tmp_path)
    for name in "ab":
        world.store.put(f"s3://lake/rows/{name}.parquet", partition(FIRST, 3, at=["03/01/2024"] * 3))
    night = world.night(pipeline=world.pipeline(source__partition={"by": "column", "column": "at"}))
    assert (night.outcome, night.ended.reason) == ("rejected", "malformed")
    assert "rows/a.parquet: column at is no date in 3 of 3 rows" in night.reasons[0]
    assert "(likewise 1 more)" in night.reasons[0]
    assert "there are 0 days of data under s3://lake/rows/" in night.reasons[0]


@pytest.mark.parametrize("folder", [".spark-staging-1/", "_staging/"])
def test_what_writers_have_put_aside_is_read_once_it_has_landed(tmp_path, folder):
    """A copy of a day in a hidden folder beside the days is none of its files; a hidden folder that names the day is."""
    world = World(tmp_path).land_all()
    world.store.put(f"s3://lake/rows/{folder}dt={NIGHT}/part.parquet", partition(NIGHT + timedelta(days=1)))
    world.store.put(f"s3://lake/rows/_dt={NIGHT}/part.parquet", partition(NIGHT + timedelta(days=2)))
    night = world.until("validate")
    assert (night.snapshot.objects, night.snapshot.rows) == (DAYS + 1, (DAYS + 1) * ROWS)


def test_what_one_reading_cannot_read_and_another_can_are_two_snapshots(tmp_path):
    """A spec that has come to read a file does not write over what an earlier night has found of it."""
    spec = yaml.safe_load(SPEC)
    spec["source"] |= {"format": "csv", "columns": {"x": "DOUBLE"}}
    world = World(tmp_path, yaml.safe_dump(spec))
    for i in range(DAYS):
        world.store.put(
            f"s3://lake/rows/dt={FIRST + timedelta(days=i)}/a.csv", b"x,y\n1,true\n" if i else b"x,y\nNA,true\n"
        )
    before = world.until("validate", pipeline=world.pipeline())
    after = world.until("validate", pipeline=world.pipeline(source__null_values=["", "NA"]))
    assert (before.snapshot.rows, after.snapshot.rows) == (DAYS - 1, DAYS)
    assert before.snapshot.digest != after.snapshot.digest
    assert pinned.load(world.services, "small", before.snapshot.digest).tables["rows"][0].problem
