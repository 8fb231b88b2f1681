"""Snapshots: immutable manifests of the exact object versions that a run reads."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Literal

from ratchet.domain.records import Record, digest
from ratchet.domain.windows import Span

if TYPE_CHECKING:
    from collections.abc import Mapping

SourceFormat = Literal["parquet", "csv", "jsonl"]


class StoredObject(Record):
    """One object version as the store lists it."""

    uri: str
    size: int  # bytes
    etag: str
    version: str | None = None  # None where the bucket keeps no versions
    modified: str | None = None  # ISO 8601, UTC; when the store took it


class Pin(Record):
    """One object version that a run reads, and the digest of its bytes."""

    uri: str
    size: int
    etag: str
    version: str | None
    sha256: str
    day: date | None  # the partition it lands in; None where rows carry their own dates
    rows: int
    days: tuple[date, ...] | None = None  # the rows' own days, each once and in order, where they carry them
    modified: str | None = None  # ISO 8601, UTC; when the store took it
    problem: str | None = None  # why it cannot be read, where that breaks its partition and not the night
    columns: tuple[tuple[str, str], ...] | None = (
        None  # (name, DuckDB type); None in manifests of before these were kept
    )
    empty: tuple[str, ...] = ()  # columns without any value

    @property
    def key(self) -> str:
        """The object's key without its bucket."""
        return self.uri.removeprefix("s3://").partition("/")[2]

    @property
    def partition_name(self) -> str:
        """What is validated and quarantined as one: its day, or its key where the rows carry their dates."""
        return str(self.day) if self.day else self.key


class Snapshot(Record):
    """Everything that a run reads, by table; ``rows`` is the table that is learnt from."""

    pipeline: str
    cutoff: date
    window: Span
    tables: dict[str, tuple[Pin, ...]]
    releases: tuple[str, ...] = ()  # digests of the decisions that give quarantined rows back

    @property
    def digest(self) -> str:
        """Identify the content: every byte of it, and nothing that differs between two stores with the same bytes."""
        content = {
            name: sorted(
                [pin.key, str(pin.day or ""), pin.size, pin.sha256, *(["not read"] if pin.problem else [])]
                for pin in pins
            )
            for name, pins in self.tables.items()
        }
        released = {"releases": sorted(self.releases)} if self.releases else {}
        return digest({"window": [str(self.window.first), str(self.window.last)], "tables": content, **released})

    @property
    def days(self) -> tuple[date, ...]:
        """The days of ``rows`` that have a partition, in order."""
        return tuple(sorted({pin.day for pin in self.tables["rows"] if pin.day is not None}))


class SnapshotDiff(Record):
    """What changed between the snapshot before and this one; partitions that left the window are not listed."""

    previous: str | None  # digest
    added: tuple[str, ...] = ()
    corrected: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    released: tuple[str, ...] = ()  # partitions of which rows were given back
    late: dict[
        str, int
    ] = {}  # by key of what is added or corrected: days after the first night that would have read it


def difference(
    previous: Snapshot | None, current: Snapshot, partitions: Mapping[str, str] | None = None
) -> SnapshotDiff:
    """Compare two snapshots of a pipeline, within the window of the current one.

    Args:
        previous: of an earlier night, or of the same before it was pinned again; None: there is none.
        current: what is compared with it.
        partitions: of which partition each release of the current one is, by its digest.
    """
    if previous is None:
        return SnapshotDiff(previous=None, added=tuple(sorted(p.key for p in current.tables["rows"])))
    before, after = _by_place(previous), _by_place(current)
    added = after.keys() - before.keys()
    corrected = {place for place in after.keys() & before.keys() if after[place].sha256 != before[place].sha256}
    gone = {place for place in before.keys() - after.keys() if _still_wanted(before[place], current.window)}
    late = {place: days for place in added | corrected if (days := _late(after[place], previous, current))}
    given = set(current.releases) - set(previous.releases)
    names = partitions or {}
    return SnapshotDiff(
        previous=previous.digest,
        added=_keys(added),
        corrected=_keys(corrected),
        removed=_keys(gone),
        released=tuple(sorted({names.get(release, release) for release in given})),
        late={key: late[table, key] for table, key in sorted(late)},
    )


def _by_place(snapshot: Snapshot) -> dict[tuple[str, str], Pin]:
    return {(name, pin.key): pin for name, pins in snapshot.tables.items() for pin in pins}


def _keys(places: set[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted({key for _, key in places}))


def _still_wanted(pin: Pin, window: Span) -> bool:
    """Say whether a file that has gone would be read if it were there; days that the window has left behind are not missed."""
    days = pin.days if pin.day is None else (pin.day,)
    return days is None or any(day in window for day in days)


def _late(pin: Pin, previous: Snapshot, current: Snapshot) -> int:
    """Return how many days after the first night that would have read it a file has come, or 0 where it is in time.

    Of a file with several days the newest counts: a few rows that were left over from days before make no file late.
    """
    days = pin.days if pin.day is None else (pin.day,)
    newest = max(days) if days else None
    if newest is None or newest not in previous.window:
        return 0
    return (current.window.last - newest).days
