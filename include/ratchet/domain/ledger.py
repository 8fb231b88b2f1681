"""The ledger's rules: a hash chain of entries, of which the newest names the champion."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Literal

from ratchet.domain.records import Record, digest
from ratchet.errors import LedgerBroken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GENESIS = "0" * 64

Action = Literal["bootstrap", "promote", "refresh", "override", "adopt", "rollback", "freeze", "thaw"]
TURNS: frozenset[Action] = frozenset({"bootstrap", "promote", "refresh", "override", "adopt", "rollback"})


class Champion(Record):
    """What serves."""

    version: int
    run_key: str
    artifact_digest: str
    cutoff: date
    seen_through: date
    mlflow_run_id: str
    recipe: str = ""  # digest of what decided the model, code included
    recipe_spec: str = ""  # the same without the code


class LedgerEntry(Record):
    """One turn of the ratchet. ``hash`` covers every field but itself and the signature; ``previous`` is the hash of the
    entry before.
    """  # noqa: D205  one sentence

    seq: int
    previous: str
    pipeline: str
    action: Action
    champion: Champion | None  # who serves from here on; a freeze or thaw repeats it, and there may be none yet
    judged_through: (
        date  # the newest day that any judgement so far has used: the evidence of this reign begins after it
    )
    night: str = ""  # run key of the night that judged; empty where a person acted outside a night
    verdict: str = ""  # digest of the verdict that let it through; empty where there was none
    certified: str = ""  # the recipe whose refreshing this entry proves to beat holding
    reasons: tuple[str, ...] = ()
    actor: str
    approved_by: str = ""
    reason: str
    until: date | None = None  # of a freeze: the last day on which it holds; None: until a thaw
    at: str  # ISO 8601, UTC
    key: str = ""  # fingerprint of the key that signed it, where one did
    hash: str = ""
    signature: str = ""  # Ed25519 over ``hash``, base64

    def sealed(self) -> LedgerEntry:
        """Return the entry with its hash."""
        return self.model_copy(update={"hash": self.expected_hash()})

    def expected_hash(self) -> str:
        """Compute what ``hash`` must be."""
        return digest(self.model_dump(mode="json", exclude={"hash", "signature"}))


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


def anchored(pipeline: str, entries: Sequence[LedgerEntry], anchors: Mapping[int, str]) -> tuple[LedgerEntry, ...]:
    """Return the entries that no anchor holds yet, when all that are anchored are still there as they were.

    A chain by itself cannot show that its end was cut off or written anew; the hashes kept elsewhere can.

    Raises:
        LedgerBroken: an anchored entry is gone, or is another now.
    """
    for seq, kept in sorted(anchors.items()):
        if seq > len(entries):
            raise LedgerBroken(pipeline, seq, f"it is gone; the registry remembers that its hash was {kept[:12]}")
        if entries[seq - 1].hash != kept:
            raise LedgerBroken(pipeline, seq, f"it was written anew; the registry remembers hash {kept[:12]}")
    return tuple(entry for entry in entries if entry.seq not in anchors)


def champion_of(entries: Sequence[LedgerEntry]) -> Champion | None:
    """Return who serves."""
    return entries[-1].champion if entries else None


def reign(entries: Sequence[LedgerEntry]) -> LedgerEntry | None:
    """Return the entry by which the champion of now came to serve."""
    return next((entry for entry in reversed(entries) if entry.action in TURNS), None)


def line(entries: Sequence[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """Return the turns that still stand, oldest first: a rollback takes back those after the one it returns to."""
    standing: list[LedgerEntry] = []
    for entry in entries:
        if entry.action not in TURNS or entry.champion is None:
            continue
        version = entry.champion.version
        if entry.action == "rollback":
            kept = next((i for i in range(len(standing) - 1, -1, -1) if _version(standing[i]) == version), None)
            if kept is not None:
                standing = standing[: kept + 1]
                continue
        standing.append(entry)
    return tuple(standing)


def rollback_target(entries: Sequence[LedgerEntry], to: int | None = None) -> tuple[Champion | None, str]:
    """Return whom a rollback returns to, the last champion that served before, or ``to``; or None and why not."""
    serving = champion_of(entries)
    if serving is None:
        return None, "there is no champion to roll back from"
    if to is not None:
        if to == serving.version:
            return None, f"version {to} serves already"
        for entry in reversed(entries):
            if entry.action in TURNS and entry.champion and entry.champion.version == to:
                return entry.champion, f"it served from {entry.at} on"
        served = sorted({_version(entry) for entry in entries if entry.action in TURNS} - {serving.version})
        return None, f"version {to} never served; there are: {', '.join(map(str, served)) or 'none'}"
    for entry in reversed(line(entries)):
        if entry.champion and entry.champion.version != serving.version:
            return entry.champion, f"it is the last champion that served before version {serving.version}"
    return None, f"version {serving.version} is the first champion; nothing served before it"


def frozen(entries: Sequence[LedgerEntry], today: date) -> LedgerEntry | None:
    """Return the freeze that holds today."""
    newest = next((entry for entry in reversed(entries) if entry.action in {"freeze", "thaw"}), None)
    if newest is None or newest.action == "thaw" or (newest.until is not None and newest.until < today):
        return None
    return newest


def certification(entries: Sequence[LedgerEntry], recipe: str) -> LedgerEntry | None:
    """Return the entry that proved that refreshing a recipe beats holding it; a rollback since then has revoked it."""
    for entry in reversed(entries):
        if entry.action == "rollback":
            return None
        if recipe and entry.certified == recipe:
            return entry
    return None


def serving_at(entries: Sequence[LedgerEntry], when: datetime) -> LedgerEntry | None:
    """Return the entry by which somebody served at a moment (aware of its zone)."""
    past = [entry for entry in entries if entry.action in TURNS and datetime.fromisoformat(entry.at) <= when]
    return past[-1] if past else None


Plan = Literal["append", "done", "superseded", "frozen"]


def promotion_plan(
    entries: Sequence[LedgerEntry], *, night: str, cutoff: date, judged_against: int, today: date
) -> tuple[Plan, str]:
    """Decide what a passed verdict may still do to the ledger.

    Args:
        entries: the ledger.
        night: run key of the night that passed.
        cutoff: of that night.
        judged_against: number of the entry by which the champion served when the evidence was made; 0: there was none.
        today: for freezes, which are about when a promotion takes place, not about what it has seen.
    """
    head = reign(entries)
    mine = next((e for e in reversed(entries) if e.night == night and e.action != "rollback"), None)
    if mine:
        since = "" if mine is head or head is None else f"; entry {head.seq} has come since"
        return "done", f"version {_version(mine)} became champion by this run with entry {mine.seq}{since}"
    if (head.seq if head else 0) != judged_against:
        now = f", but entry {head.seq} has come since" if head else ", which is gone"
        return "superseded", f"it was judged against entry {judged_against or 'none'}{now}"
    if head and head.judged_through > cutoff:
        return (
            "superseded",
            f"the champion was judged on days up to {head.judged_through}, this run only up to {cutoff}",
        )
    freeze = frozen(entries, today)
    if freeze:
        until = f"until {freeze.until}" if freeze.until else "until it is thawed"
        return "frozen", f"{freeze.actor} froze it {until} (entry {freeze.seq}): {freeze.reason}"
    return "append", f"it follows entry {entries[-1].seq}" if entries else "the first champion"


def _version(entry: LedgerEntry) -> int:
    return entry.champion.version if entry.champion else 0
