"""Quarantine: where rows and partitions go that broke a critical expectation, and how a person gives them back."""

from __future__ import annotations

from datetime import date

from ratchet.domain.records import Record, digest


class QuarantinedPartition(Record):
    """A partition that is left out as a whole."""

    partition: str  # its day, or its key where rows carry their date
    objects: tuple[str, ...]  # sha256 of each
    rows: int
    reasons: tuple[str, ...]


class QuarantinedRows(Record):
    """Rows of a partition that are left out one by one; the partition's others are used."""

    partition: str
    content: str  # digest of the partition's content
    objects: tuple[str, ...]  # sha256 of each of the partition's objects
    rows: int  # how many are left out
    reasons: tuple[str, ...]
    kept: str  # key of the Parquet file that holds them, with _key, _row (1 is a file's first) and _reasons beside their columns


class Release(Record):
    """A person's decision that quarantined rows are good after all: from then on they are a new version of the partition."""

    pipeline: str
    partition: str
    day: date | None
    content: (
        str  # digest of the partition's content; a corrected partition is another one, to which this does not apply
    )
    rows: tuple[tuple[str, int], ...] | None  # (object's sha256, row from 1) of each; None: all of them
    actor: str
    reason: str
    at: str  # ISO 8601, UTC

    @property
    def digest(self) -> str:
        """Identify the decision; it becomes part of the snapshot's digest."""
        return digest(self.model_dump(mode="json"))
