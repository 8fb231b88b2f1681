"""A night reads partitions that are complete, waits for those that are not, and then rejects them by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from small_world import FIRST, NIGHT, World, partition

from ratchet.domain.night import NightRequest
from ratchet.errors import ServiceError, SpecInvalid
from ratchet.steps.completion import look, wait
from ratchet.steps.context import Context
from ratchet.steps.night import begin
from ratchet.steps.snapshot import accept, snapshot

DAY = timedelta(days=1)
DAYS = [FIRST + DAY * i for i in range((NIGHT - FIRST).days + 1)]
MARKER, MANIFEST = {"by": "marker"}, {"by": "manifest"}
DUE = datetime(2024, 3, 9, 3, tzinfo=UTC)


def folder(day, file: str = "") -> str:
    """Return the address of something in a day's folder."""
    return f"s3://lake/rows/dt={day}/{file}"


@pytest.fixture
def world(tmp_path):
    """All days with their markers, written an hour before the night is due."""
    made = World(tmp_path)
    made.store.clock = lambda: DUE - timedelta(hours=1)
    made.land_all()
    for day in DAYS:
        made.store.put(folder(day, "_SUCCESS"), b"")
    return made


def says(world: World, day, *more: dict, **changed) -> None:
    """Write a day's manifest as its data is, but for what is changed."""
    data = world.store.get(world.uri(day))
    file = {"name": "part.parquet", "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changed}
    world.store.put(folder(day, "_manifest.json"), json.dumps({"files": [file, *more]}).encode())


def pinned(world: World, rule=None, **overrides):
    """Run the snapshot of a night."""
    return world.until("validate", pipeline=world.pipeline(source__completion=rule, **overrides))


def test_partitions_with_their_markers_are_read(world):
    """The markers themselves are no data."""
    night = pinned(world, MARKER)
    assert (night.snapshot.objects, night.snapshot.partitions) == (8, 8)


@pytest.mark.parametrize("day", [FIRST, NIGHT])
def test_a_partition_without_its_marker_rejects_the_night(world, day):
    """By name, with the marker, since when it has been so, and what to do; the next try reads it once the marker is there."""
    world.store.delete(folder(day, "_SUCCESS"))
    night = pinned(world, MARKER)
    assert (night.outcome, night.ended.reason) == ("rejected", "incomplete")
    for words in (
        f"partition {day}",
        folder(day),
        "no marker _SUCCESS",
        "last written 2024-03-09T02:00:00",
        "part.parquet",
    ):
        assert words in night.ended.detail
    assert "write _SUCCESS beside it, then run the night again" in night.ended.detail
    world.store.put(folder(day, "_SUCCESS"), b"")
    assert pinned(world, MARKER).snapshot.partitions == 8


def test_what_the_window_does_not_hold_need_not_be_complete(world):
    """Days before and after the window are none of the night's business."""
    for day in (FIRST - DAY, NIGHT + DAY):
        world.land(day)
    assert pinned(world, MARKER).snapshot.partitions == 8


def test_a_deep_partition_has_one_marker(tmp_path):
    """Files may lie further down; the marker is in the folder of the day."""
    world = World(tmp_path)
    for day in DAYS:
        for part in "ab":
            world.store.put(folder(day, f"part={part}/x.parquet"), partition(day))
        world.store.put(folder(day, "_SUCCESS"), b"")
    assert pinned(world, MARKER).snapshot.objects == 16
    world.store.delete(folder(DAYS[3], "_SUCCESS"))
    assert pinned(world, MARKER).ended.reason == "incomplete"


def flat(folder, *markers) -> World:
    """A world whose days share a folder."""
    world = World(folder)
    for day in DAYS:
        world.store.put(f"s3://lake/rows/{day}.parquet", partition(day))
    for name in markers:
        world.store.put(f"s3://lake/rows/{name}", b"")
    return world


def test_days_that_share_a_folder_have_a_marker_each(tmp_path):
    """The day stands in the marker's name."""
    world = flat(tmp_path, *(f"{day}.done" for day in DAYS[:-1]))
    asked = {"source__partition": {"by": "path", "pattern": "{date}.parquet"}}
    rule = {"by": "marker", "name": "{date}.done"}
    night = pinned(world, rule, **asked)
    assert (night.ended.reason, f"no marker {NIGHT}.done" in night.ended.detail) == ("incomplete", True)
    world.store.put(f"s3://lake/rows/{NIGHT}.done", b"")
    assert pinned(world, rule, **asked).snapshot.objects == 8


def test_one_marker_cannot_speak_for_many_days(tmp_path):
    """It is the spec's mistake, and told as such: when it is read where it can be seen there, else when the days are found."""
    world = flat(tmp_path, "_SUCCESS")
    with pytest.raises(SpecInvalid, match=r"source.*put the day into the name, such as \{date\}.SUCCESS"):
        pinned(world, MARKER, source__partition={"by": "path", "pattern": "{date}.parquet"})
    with pytest.raises(SpecInvalid, match=r"source.completion.name: '_SUCCESS' would speak for several days at once"):
        pinned(world, MARKER, source__partition={"by": "path", "pattern": "{date}"})
    with pytest.raises(SpecInvalid, match="stands for nothing here"):
        pinned(world, {"by": "marker", "name": "{date}.ok"}, source__partition={"by": "column", "column": "at"})


def test_folders_of_rows_that_carry_their_dates_have_a_marker_each(tmp_path):
    """Where no key names a day, the partition is the folder."""
    world = World(tmp_path)
    for name in ("a", "b"):
        world.store.put(f"s3://lake/rows/{name}/x.parquet", partition(FIRST, len(DAYS), at=DAYS))
        world.store.put(f"s3://lake/rows/{name}/_SUCCESS", b"")
    asked = {"source__partition": {"by": "column", "column": "at"}}
    assert pinned(world, MARKER, **asked).snapshot.objects == 2
    world.store.delete("s3://lake/rows/b/_SUCCESS")
    night = pinned(world, MARKER, **asked)
    assert "partition s3://lake/rows/b/ has no marker" in night.ended.detail


@pytest.fixture
def listed(world):
    """All days with a manifest each."""
    for day in DAYS:
        says(world, day)
    return world


def test_a_manifest_decides_what_is_read(listed):
    """What it does not name was left behind by somebody else, is not read, and is said."""
    listed.store.put(folder(FIRST, "attempt-1.parquet"), b"half a file")
    told = []
    night = begin(
        NightRequest(pipeline="small", cutoff=NIGHT, actor="tests"), listed.pipeline(source__completion=MANIFEST)
    )
    made = snapshot(Context(listed.pipeline(source__completion=MANIFEST), night, listed.services, told.append))
    assert made.objects == 8
    assert any("1 that no manifest names" in words for words in told)


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"size": 1}, "missing_object", "expected 1"),
        ({"name": "other.parquet"}, "missing_object", "other.parquet is not there"),
        ({"sha256": "0" * 64}, "corrupt", "its manifest says 000"),
        ({"name": "../x"}, "corrupt", "cannot be read"),
    ],
)
def test_a_partition_that_is_not_what_its_manifest_says(listed, change, reason, words):
    """A missing object, another size and other bytes each reject the night, naming the object; also in the middle of the window."""
    says(listed, DAYS[4], **change)
    night = pinned(listed, MANIFEST)
    assert (night.outcome, night.ended.reason) == ("rejected", reason)
    assert words in night.ended.detail
    assert f"dt={DAYS[4]}/" in night.ended.detail


def test_a_manifest_without_any_of_its_files(listed):
    """A day of which only the manifest has landed is not taken for a day without data."""
    listed.store.delete(listed.uri(DAYS[2]))
    assert pinned(listed, MANIFEST).ended.reason == "missing_object"


def test_quiet_is_judged_by_the_clock(world):
    """The one rule that looks at it: what was written just now rejects, what was written long ago is read."""
    world.store.clock = lambda: datetime.now(UTC)
    world.land(NIGHT)
    night = pinned(world, {"by": "quiet", "minutes": 15.0})
    assert night.ended.reason == "incomplete"
    assert "is still being written" in night.ended.detail
    world.store.clock = lambda: datetime.now(UTC) - timedelta(minutes=16)
    world.land(NIGHT)
    assert pinned(world, {"by": "quiet", "minutes": 15.0}).snapshot.partitions == 8


def test_side_tables_complete_too(tmp_path):
    """Each table has a rule of its own."""
    world = World(tmp_path).land_all()
    side = {"uri": "s3://lake/side/", "format": "parquet", "days_before": 0, "completion": MARKER}
    for day in DAYS:
        world.store.put(f"s3://lake/side/dt={day}/x.parquet", partition(day))
        world.store.put(f"s3://lake/side/dt={day}/_SUCCESS", b"")
    assert pinned(world, source__tables={"side": side}).snapshot.objects == 16
    world.store.delete(f"s3://lake/side/dt={NIGHT}/_SUCCESS")
    night = pinned(world, source__tables={"side": side})
    assert f"s3://lake/side/dt={NIGHT}/" in night.ended.detail


def context(world: World, rule=None, **asked) -> Context:
    """Return a night that has just begun."""
    pipeline = world.pipeline(source__completion=rule or MARKER)
    night = begin(NightRequest(pipeline="small", cutoff=NIGHT, actor="tests", **asked), pipeline)
    return Context(pipeline, night, world.services)


def test_nothing_is_waited_for_when_all_is_there(world):
    """The night goes on at once."""
    assert look(context(world), DUE, DUE).until is None


@pytest.mark.parametrize("lost", ["_SUCCESS", "part.parquet"])
def test_a_night_waits_for_its_newest_day(world, lost):
    """For its marker, and where nothing at all has landed, for the day; until the hours of the spec are over."""
    for file in {lost, "_SUCCESS"}:
        world.store.delete(folder(NIGHT, file))
    found = look(context(world), DUE, DUE)
    assert found.until == DUE + timedelta(hours=3)
    assert "2024-03-09 06:00 UTC at most" in found.words
    assert str(NIGHT) in found.words
    assert look(context(world), DUE, DUE + timedelta(hours=3)).until is None


def test_waiting_ends_for_a_night_that_has_its_snapshot(world):
    """A night that is run again reads what it read before, unless it is asked to pin again."""
    pipeline = world.pipeline(source__completion=MARKER)
    night = world.until("validate", pipeline=pipeline)
    accept(Context(pipeline, night, world.services))
    world.store.delete(folder(NIGHT, "_SUCCESS"))
    assert look(context(world), DUE, DUE).until is None
    assert look(context(world, repin=True), DUE, DUE).until is not None


class Down:
    """A store that does not answer."""

    def __init__(self, error):
        self.error = error

    def list(self, uri, *, versions=False):
        """Fail."""
        raise self.error


@pytest.mark.parametrize(("retryable", "waits"), [(True, True), (False, False)])
def test_a_fault_that_may_pass_is_waited_out(world, retryable, waits):
    """Any other is left to the snapshot, which tells it."""
    error = ServiceError("object store", "listing", "503")
    error.retryable = retryable
    ctx = context(world)
    ctx = Context(ctx.pipeline, ctx.night, dataclasses.replace(ctx.services, store=Down(error)))
    assert (look(ctx, DUE, DUE).until is not None) == waits


def test_waiting_in_one_process(world):
    """It looks again and again until the marker is there, says each thing once, and never sleeps beyond its time."""
    world.store.delete(folder(NIGHT, "_SUCCESS"))
    clock, told, slept = [DUE], [], []

    def sleep(seconds):
        slept.append(seconds)
        clock[0] += timedelta(seconds=seconds)
        if len(slept) == 3:
            world.store.put(folder(NIGHT, "_SUCCESS"), b"")

    ctx = context(world)
    wait(Context(ctx.pipeline, ctx.night, ctx.services, told.append), lambda: clock[0], sleep)
    assert slept == [60.0] * 3
    assert [words.startswith("waiting until") for words in told] == [True, False]


def test_waiting_is_over_at_its_time(world):
    """The deadline is met although the pause between two looks is longer than what is left."""
    world.store.delete(folder(NIGHT, "_SUCCESS"))
    clock = [DUE]

    def sleep(seconds):
        clock[0] += timedelta(seconds=seconds)

    ctx = context(world, {"by": "marker", "wait_hours": 0.03})
    wait(ctx, lambda: clock[0], sleep)
    assert timedelta(0) <= clock[0] - DUE - timedelta(hours=0.03) < timedelta(seconds=1)
