"""When a partition is complete, and in which words it is told what it lacks."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.completion import Landing, beside, lacking, named, read_manifest
from ratchet.domain.data_rules import ByManifest, ByMarker, ByQuiet
from ratchet.domain.snapshots import StoredObject

DAY = date(2024, 1, 2)
FOLDER = "s3://lake/t/dt=2024-01-02/"
NOW = datetime(2024, 1, 3, 3, tzinfo=UTC)


def stored(name: str, size: int = 5, at: datetime | None = NOW - timedelta(hours=1)) -> StoredObject:
    """Return an object of the partition's folder."""
    return StoredObject(uri=FOLDER + name, size=size, etag='"e"', modified=at and at.isoformat())


def landing(*objects: StoredObject, day: date | None = DAY) -> Landing:
    """Return a partition of these objects."""
    return Landing(folder=FOLDER, day=day, objects=objects)


def manifest(*files: dict) -> bytes:
    """Return a manifest of these files."""
    return json.dumps({"files": files, "written_by": "an exporter"}).encode()


def found(rule, made: Landing, *others: StoredObject, says: bytes | None = None):
    """Return what a partition lacks, with these objects beside it."""
    there = {s.uri: s for s in (*made.objects, *others)}
    read = None
    if says is not None:
        try:
            read = read_manifest(says)
        except ValueError as exc:
            read = str(exc)
    return lacking(rule, made, there, read, NOW)


def test_a_partition_without_its_marker_is_incomplete():
    """It is named, with the marker that was looked for, and since when it has been as it is."""
    rule, made = ByMarker(by="marker"), landing(stored("a.parquet"), stored("b.parquet", at=NOW - timedelta(minutes=5)))
    assert found(rule, made, stored("_SUCCESS", 0)) is None
    lack = found(rule, made)
    assert lack.reason == "incomplete"
    assert str(lack) == (
        f"partition 2024-01-02 ({FOLDER}) has no marker _SUCCESS; last written 2024-01-03T02:55:00+00:00 (b.parquet)"
    )


@pytest.mark.parametrize(
    ("name", "day", "address"),
    [
        ("_SUCCESS", DAY, f"{FOLDER}_SUCCESS"),
        ("{date}.done", DAY, f"{FOLDER}2024-01-02.done"),
        ("{yyyy}{mm}{dd}.ok", DAY, f"{FOLDER}20240102.ok"),
        ("_SUCCESS", None, f"{FOLDER}_SUCCESS"),
    ],
)
def test_a_marker_may_hold_the_day(name, day, address):
    """Where the days share one folder, each has a marker of its own."""
    assert beside(name, landing(day=day)) == address


FILES = ({"name": "a.parquet", "size": 5}, {"name": "deep/b.parquet", "size": 7, "sha256": "A" * 64, "rows": 3})


def test_a_manifest_is_kept_to_the_byte():
    """Every file that it names must be there in its size; what is missing or of another size is told by its address."""
    rule, whole = ByManifest(by="manifest"), (stored("a.parquet"), stored("deep/b.parquet", 7))
    own = stored("_manifest.json", 99)
    assert found(rule, landing(*whole), own, says=manifest(*FILES)) is None
    missing = found(rule, landing(whole[0]), own, says=manifest(*FILES))
    assert (missing.reason, "deep/b.parquet is not there" in missing.words) == ("missing_object", True)
    short = found(rule, landing(stored("a.parquet", 4), whole[1]), own, says=manifest(*FILES))
    assert (short.reason, "a.parquet has 4 bytes, expected 5" in short.words) == ("missing_object", True)
    assert found(rule, landing(*whole)).reason == "incomplete"


@pytest.mark.parametrize(("file", "reason"), [("a.csv", "unmatched"), ("_checksums", None), (".part.crc", None)])
def test_a_manifest_whose_files_would_not_be_read(file, reason):
    """A partition is read whole: a data file of another ending rejects; what writers leave beside their data is no data."""
    made, there = landing(stored("a.parquet")), (stored("_manifest.json"), stored(file, 3))
    says = manifest({"name": "a.parquet", "size": 5}, {"name": file, "size": 3})
    lack = found(ByManifest(by="manifest"), made, *there, says=says)
    assert (lack.reason if lack else None) == reason


def test_a_manifest_that_names_nothing_makes_no_data_vanish():
    """An empty list beside data is no day without data; without any data it is one."""
    rule, own, says = ByManifest(by="manifest"), stored("_manifest.json"), manifest()
    lack = found(rule, landing(stored("a.parquet")), own, says=says)
    assert (lack.reason, "names no file, and 1 have landed" in lack.words) == ("incomplete", True)
    assert found(rule, landing(), own, says=says) is None


def test_many_missing_files_are_counted():
    """A message names three and counts the rest."""
    files = [{"name": f"{i}.parquet", "size": 1} for i in range(9)]
    lack = found(ByManifest(by="manifest"), landing(), stored("_manifest.json"), says=manifest(*files))
    assert lack.words.count("is not there") == 3
    assert lack.words.endswith("and 6 more")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"files": null}',
        b'{"files": [{"name": "a"}]}',
        b'{"files": [{"name": "a", "size": "5"}]}',
        b'{"files": [{"name": "a", "size": -1}]}',
        b'{"files": [{"name": "", "size": 1}]}',
        b'{"files": [{"name": "../a", "size": 1}]}',
        b'{"files": [{"name": "/a", "size": 1}]}',
        b'{"files": [{"name": "s3://other/a", "size": 1}]}',
        b'{"files": [{"name": "a", "size": 1, "sha256": "short"}]}',
        b'{"files": [{"name": "a", "size": 1}, {"name": "a", "size": 2}]}',
        b"[" * 100_000,
    ],
)
def test_a_manifest_that_cannot_be_read_rejects(data):
    """Neither broken JSON nor names that lead elsewhere are guessed at."""
    lack = found(ByManifest(by="manifest"), landing(stored("a")), stored("_manifest.json"), says=data)
    assert lack.reason == "corrupt"
    assert "_manifest.json that cannot be read" in lack.words


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_no_manifest_raises_anything_else(data):
    """Whatever lies under a manifest's name is read, or refused in words."""
    words, files = "", ()
    try:
        files = read_manifest(data if isinstance(data, bytes) else data.encode()).files
    except ValueError as exc:
        words = str(exc)
    assert words or all(file.size >= 0 for file in files)


def test_a_manifest_names_addresses():
    """The names are below the partition's folder."""
    assert set(named(landing(), read_manifest(manifest(*FILES)))) == {f"{FOLDER}a.parquet", f"{FOLDER}deep/b.parquet"}


@given(st.lists(st.integers(0, 120), min_size=1, max_size=5), st.integers(1, 60))
def test_quiet_looks_at_the_youngest_object(ages, minutes):
    """A partition is complete when its youngest object is as old as the rule asks for."""
    made = landing(*(stored(f"{i}.parquet", at=NOW - timedelta(minutes=age)) for i, age in enumerate(ages)))
    lack = found(ByQuiet(by="quiet", minutes=float(minutes)), made)
    assert (lack is None) == (min(ages) >= minutes)


def test_quiet_cannot_be_had_from_a_store_that_keeps_no_times():
    """A check that could not be made has not passed."""
    lack = found(ByQuiet(by="quiet"), landing(stored("a", at=None)))
    assert (lack.reason, "does not say when" in lack.words) == ("incomplete", True)
