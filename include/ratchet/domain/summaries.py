"""What is kept of a partition so that nobody has to read it again to compare it with others: counts and hashes, never a value."""

from __future__ import annotations

import base64
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    Hashes = np.ndarray[Any, np.dtype[np.uint64]]
    Counts = np.ndarray[Any, np.dtype[np.int64]]

ALL = 1 << 64  # hashes are below this


class Sketch(Record):
    """Which rows a partition has: of each whose hash is below ``bound`` the hash, and how often it comes."""

    bound: int  # ALL: every row is in it
    hashes: str  # base64 of ascending 64-bit numbers, little-endian
    counts: str  # likewise, 32 bits

    @classmethod
    def of(cls, bound: int, hashes: Sequence[int], counts: Sequence[int]) -> Sketch:
        """Pack a sketch."""
        packed = (np.asarray(hashes, "<u8").tobytes(), np.asarray(counts, "<u4").tobytes())
        return cls(
            bound=bound, **dict(zip(("hashes", "counts"), (base64.b64encode(p).decode() for p in packed), strict=True))
        )

    def unpacked(self) -> tuple[Hashes, Counts]:
        """Return the hashes and how often each comes."""
        hashes, counts = (
            np.frombuffer(base64.b64decode(text), kind) for text, kind in ((self.hashes, "<u8"), (self.counts, "<u4"))
        )
        return hashes.astype(np.uint64), counts.astype(np.int64)


class Labels(Record):
    """The labels of some rows."""

    unlabelled: int
    classes: dict[str, int] | None = None  # rows of each; None of a regression
    total: float = 0.0  # of a regression


class PartSummary(Record):
    """What one source file holds of one day; never a value of a row."""

    day: date
    rows: int
    missing: dict[str, int]  # by column: NULL, NaN or blank text
    labels: Labels | None = None  # None where the target cannot be told from this file alone
    ahead: dict[str, int] = {}  # by DATE or TIMESTAMP column: values more than a day after the day
    future: int | None = None  # rows whose event lies after the day; None where the column's values do not tell
    future_rows: tuple[int, ...] = ()  # the first of them, from 1
    sketch: Sketch | None = None  # None where the file lacks a column of the key


class Part(NamedTuple):
    """A summary and the source file that it is of."""

    key: str
    summary: PartSummary


class FileSummary(Record):
    """What one source file holds, by day."""

    days: tuple[PartSummary, ...]
