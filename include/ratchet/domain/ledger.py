"""The ledger's rules: a hash chain of entries, of which the newest names the champion."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Literal

from ratchet.domain.records import Record, digest
from ratchet.errors import LedgerBroken

if TYPE_CHECKING:
    from collections.abc import Sequence

GENESIS = "0" * 64


class Champion(Record):
    """What serves."""

    version: int
    run_key: str
    artifact_digest: str
    cutoff: date
    seen_through: date
    mlflow_run_id: str


class LedgerEntry(Record):
    """One turn of the ratchet. ``hash`` covers every other field, and ``previous`` is the hash of the entry before."""

    seq: int
    previous: str
    pipeline: str
    action: Literal["bootstrap", "promote"]
    champion: Champion
    verdict: str  # digest of the verdict that let it through
    reasons: tuple[str, ...]
    actor: str
    reason: str
    at: str  # ISO 8601, UTC; for people, no rule looks at it
    hash: str = ""

    def sealed(self) -> LedgerEntry:
        """Return the entry with its hash."""
        return self.model_copy(update={"hash": self.expected_hash()})

    def expected_hash(self) -> str:
        """Compute what ``hash`` must be."""
        return digest(self.model_dump(mode="json", exclude={"hash"}))


def verified(pipeline: str, entries: Sequence[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """Return the entries when the chain holds.

    Raises:
        LedgerBroken: an entry was edited, removed or reordered.
    """
    previous = GENESIS
    for seq, entry in enumerate(entries, start=1):
        if entry.pipeline != pipeline:
            raise LedgerBroken(pipeline, seq, f"it belongs to pipeline {entry.pipeline!r}")
        if entry.seq != seq:
            raise LedgerBroken(pipeline, seq, f"entry {entry.seq} stands in its place")
        if entry.previous != previous:
            raise LedgerBroken(pipeline, seq, "it does not continue the entry before it")
        if entry.hash != entry.expected_hash():
            raise LedgerBroken(pipeline, seq, "its content does not match its hash")
        previous = entry.hash
    return tuple(entries)


Plan = Literal["append", "done", "superseded"]


def promotion_plan(
    entries: Sequence[LedgerEntry], *, run_key: str, cutoff: date, judged_against: int
) -> tuple[Plan, str]:
    """Decide what a passed verdict may still do to the ledger.

    Args:
        entries: the ledger.
        run_key: of the run that passed.
        cutoff: of the run that passed.
        judged_against: the ledger's length when the evidence was made.
    """
    if not entries:
        if judged_against:
            return "superseded", f"it was judged against ledger entry {judged_against}, which is gone"
        return "append", "the first champion"
    head, mine = entries[-1], next((e for e in reversed(entries) if e.champion.run_key == run_key), None)
    if mine:
        since = "" if mine is head else f"; entry {head.seq} has come since"
        return "done", f"version {mine.champion.version} of this run became champion with entry {mine.seq}{since}"
    if head.seq != judged_against:
        return (
            "superseded",
            f"it was judged against entry {judged_against or 'none'}, but entry {head.seq} has come since",
        )
    if head.champion.cutoff > cutoff:
        return "superseded", f"the champion knows data up to {head.champion.cutoff}, this run only up to {cutoff}"
    return "append", f"it follows entry {head.seq}"
