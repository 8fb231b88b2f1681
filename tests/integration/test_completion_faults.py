"""Partitions that are not all there, as markers, manifests and quiet tell: the night waits for no one it was not told to, and says who is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integration.lakes import CHAMPION, DAY, FIRST, TONIGHT, Lake, rejected, unharmed

MARKER = "source.completion={by: marker}"
MANIFEST = "source.completion={by: manifest}"


# Partition without its completion marker, or still being written.


def mark(lake: Lake, name: str = "_SUCCESS", through: Any = TONIGHT) -> None:
    """Mark every partition of the lake as complete, up to a day."""
    for i in range((through - FIRST).days + 1):
        lake.put(f"rows/dt={FIRST + i * DAY}/{name}", b"")


def test_partition_without_its_marker_is_rejected_as_incomplete(lake: Lake) -> None:
    """Where the spec names a marker, the day that lacks one is named, with the marker that is waited for."""
    mark(lake, through=CHAMPION)
    rejected(lake, "incomplete", str(TONIGHT), "_SUCCESS", changes=(MARKER,))


def test_partitions_with_their_markers_are_read(lake: Lake) -> None:
    """Markers of all days let the night go on, and are no data themselves."""
    mark(lake)
    with unharmed(lake):
        assert lake.dry(MARKER).outcome == "promoted"


def test_earlier_partition_without_its_marker_is_rejected_as_incomplete(lake: Lake) -> None:
    """A day in the middle of the window that lost its marker is as incomplete as tonight's."""
    mark(lake)
    lake.remove(f"rows/dt={FIRST + 9 * DAY}/_SUCCESS")
    rejected(lake, "incomplete", str(FIRST + 9 * DAY), "_SUCCESS", changes=(MARKER,))


def test_marker_of_another_name_marks_nothing(lake: Lake) -> None:
    """`_SUCCESS` does not stand for the `DONE` that the spec names."""
    mark(lake)
    rejected(lake, "incomplete", "DONE", changes=("source.completion={by: marker, name: DONE}",))


def test_partition_that_was_written_a_moment_ago_is_rejected_as_incomplete(lake: Lake) -> None:
    """Where quiet time tells, a partition that was just written to may still be in the writing."""
    rejected(lake, "incomplete", str(TONIGHT), changes=("source.completion={by: quiet, minutes: 60}",))


# Manifest names a missing or wrong-size object.


def manifest(lake: Lake, **changes: Any) -> None:
    """Write each day's manifest; ``changes`` are to tonight's only file."""
    for i in range((TONIGHT - FIRST).days + 1):
        day = FIRST + i * DAY
        file = {"name": "part.parquet", "size": len(lake.source.get(f"s3://{lake.source.bucket}/{lake.key(day)}"))}
        document = {"files": [file | (changes if day == TONIGHT else {})]}
        lake.put(f"rows/dt={day}/_manifest.json", json.dumps(document).encode())


def test_partitions_as_their_manifests_have_them_are_read(lake: Lake) -> None:
    """Manifests that hold let the night go on."""
    manifest(lake)
    with unharmed(lake):
        assert lake.dry(MANIFEST).outcome == "promoted"


@pytest.mark.parametrize(
    "named",
    [{"name": "gone.parquet"}, {"size": 17}, {"name": "sub/part.parquet"}],
    ids=["missing object", "object of another size", "object in another folder"],
)
def test_manifest_that_names_what_is_not_there_is_rejected(lake: Lake, named: dict[str, Any]) -> None:
    """The object is named, and so is what the manifest expects and what was found."""
    manifest(lake, **named)
    rejected(
        lake, "missing_object", f"rows/dt={TONIGHT}/", str(named.get("name", 17)), "_manifest.json", changes=(MANIFEST,)
    )


def test_manifest_that_names_other_bytes_is_rejected(lake: Lake) -> None:
    """Where the manifest gives a sha256, the bytes must have it."""
    manifest(lake, sha256="0" * 64)
    ran = rejected(lake, "corrupt", lake.key(), changes=(MANIFEST,))
    assert "manifest" in ran.why


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"files": []}',
        b'{"files": [{"size": 3}]}',
        b'{"files": [{"name": "../dt=2024-03-04/part.parquet", "size": 1}]}',
        b'{"files": [{"name": "/etc/passwd", "size": 1}]}',
        b"\xff\xfe{}",
    ],
)
def test_manifest_that_cannot_be_relied_on_is_rejected(lake: Lake, data: bytes) -> None:
    """A manifest that is empty, broken or points elsewhere shows nothing to be complete; it is named."""
    manifest(lake)
    lake.put(f"rows/dt={TONIGHT}/_manifest.json", data)
    with unharmed(lake):
        ran = lake.night(TONIGHT, changes=(MANIFEST,))
    assert (ran.outcome, ran.status) == ("rejected", 3), (ran.why, ran.err)
    assert f"rows/dt={TONIGHT}/_manifest.json" in ran.why
    assert "Traceback" not in ran.err


def test_object_that_no_manifest_names_is_not_read(lake: Lake) -> None:
    """What lies beside the files of the manifest is not part of the partition."""
    manifest(lake)
    expected = lake.dry(MANIFEST).night["snapshot"]["digest"]
    lake.land(part="part.tmp")
    assert lake.dry(MANIFEST).night["snapshot"]["digest"] == expected
