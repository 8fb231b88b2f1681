"""What a check over the whole window has found, and what follows from it."""

from __future__ import annotations

from typing import Any, Literal

from ratchet.domain.records import Record

FindingKind = Literal["volume", "nulls", "labels", "time", "duplicates", "overlap", "leak", "lookahead", "met", "drift"]


class Finding(Record):
    """One thing that no single row shows."""

    kind: FindingKind
    action: Literal["warn", "hold", "reject"]
    subject: str  # column, partition or feature
    words: str  # what was expected and found, with numbers, and what to do
    value: float | None = None
    limit: float | None = None


def acting(action: str) -> Any:
    """Return the action of a check that looks, as a finding has it."""
    assert action != "off", "a check that is off finds nothing"
    return action
