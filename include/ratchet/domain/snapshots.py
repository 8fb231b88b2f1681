"""Snapshots: immutable manifests of the exact object versions that a run reads."""

from __future__ import annotations

from datetime import date
from typing import Literal

from ratchet.domain.records import Record, digest
from ratchet.domain.windows import Span

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

    @property
    def key(self) -> str:
        """The object's key without its bucket."""
        return self.uri.removeprefix("s3://").partition("/")[2]


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
            name: sorted([pin.key, str(pin.day or ""), pin.size, pin.sha256] for pin in pins)
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
    late: dict[str, int] = {}  # by key of what is added: days after its own, where an earlier cutoff could have seen it


def difference(previous: Snapshot | None, current: Snapshot) -> SnapshotDiff:
    """Compare two snapshots of a pipeline, within the window of the current one."""
    if previous is None:
        return SnapshotDiff(previous=None, added=tuple(sorted(p.key for p in current.tables["rows"])))
    before = {pin.key: pin for pins in previous.tables.values() for pin in pins}
    after = {pin.key: pin for pins in current.tables.values() for pin in pins}
    gone = (pin for key, pin in before.items() if key not in after)
    return SnapshotDiff(
        previous=previous.digest,
        added=tuple(sorted(after.keys() - before.keys())),
        corrected=tuple(sorted(k for k in after.keys() & before.keys() if after[k].sha256 != before[k].sha256)),
        removed=tuple(sorted(p.key for p in gone if p.day is None or p.day in current.window)),
    )
