"""The ledger's rules: a hash chain of entries, of which the newest names the champion."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import field_validator

from ratchet.domain.records import Record, digest
from ratchet.errors import LedgerBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Trusted = Mapping[
        str, Callable[[str, str], bool]
    ]  # fingerprint of a key → whether a signature over a hash is its own

GENESIS = "0" * 64
SHOWN = 16  # hexadecimal digits of a hash or key that suffice for people

Action = Literal["bootstrap", "promote", "refresh", "override", "adopt", "rollback", "freeze", "thaw", "sign"]
TURNS: frozenset[Action] = frozenset({"bootstrap", "promote", "refresh", "override", "adopt", "rollback"})
JUDGED: frozenset[Action] = frozenset({"bootstrap", "promote", "refresh", "override"})  # by a night's verdict


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

    A field that has its default is neither stored nor hashed, so that a ledger outlives new fields, and so that what is stored
    is what is hashed: a default, once given, must never change.
    """  # noqa: D205  one sentence

    seq: int
    previous: str
    pipeline: str
    action: Action
    champion: Champion | None  # who serves from here on; what is no turn repeats it, and there may be none yet
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
    signature: str = ""  # Ed25519 over ``signed_words(hash)``, base64

    @field_validator("at")
    @classmethod
    def _a_moment(cls, at: str) -> str:
        """Refuse what cannot be put in order with other moments; nothing that Ratchet has written is such."""
        if datetime.fromisoformat(at).tzinfo is None:
            raise ValueError("expected a moment with its zone")
        return at

    def sealed(self) -> LedgerEntry:
        """Return the entry with its hash."""
        return self.model_copy(update={"hash": self.expected_hash()})

    def expected_hash(self) -> str:
        """Compute what ``hash`` must be."""
        return digest(self.model_dump(mode="json", exclude={"hash", "signature"}, exclude_defaults=True))

    def as_json(self, indent: int | None = None) -> str:
        """Return the entry as it is stored and exported."""
        return self.model_dump_json(indent=indent, exclude_defaults=True)


def signed_words(entry_hash: str) -> bytes:
    """Return what a signature is made over; the words keep it from passing for a signature of anything else."""
    return f"ratchet-ledger:{entry_hash}".encode()


def verified(pipeline: str, entries: Sequence[LedgerEntry], trusted: Trusted | None = None) -> tuple[LedgerEntry, ...]:
    """Return the entries when the chain holds, and where keys are trusted, when the signatures do.

    A signature covers the hash, and with it every entry before: what stands before the first signed entry is vouched for by
    it. From there on every entry must be signed, and with trusted keys at least one must be: otherwise whoever can write could
    strip them all, or begin a ledger anew.

    Raises:
        LedgerBroken: an entry was edited, removed or reordered, or is not signed by a trusted key.
    """
    previous, signed = GENESIS, 0
    for seq, entry in enumerate(entries, start=1):
        _refuse_unlinked(pipeline, seq, entry, previous)
        _refuse_unsigned(entry, signed, trusted or {})
        previous, signed = entry.hash, seq if entry.signature else signed
    if trusted and entries and not signed:
        raise LedgerBroken(
            pipeline,
            len(entries),
            f"expected a signature by one of the trusted keys ({_short(trusted)}), found none on this or any entry before it",
            f"if the ledger is older than the keys, compare it with an export and run `ratchet ledger sign {pipeline}`; "
            "if it is not, it was written anew: restore its entries from the object store's versions",
        )
    return tuple(entries)


def _refuse_unlinked(pipeline: str, seq: int, entry: LedgerEntry, previous: str) -> None:
    if entry.pipeline != pipeline:
        raise LedgerBroken(pipeline, seq, f"it belongs to pipeline {entry.pipeline!r}")
    if entry.seq != seq:
        raise LedgerBroken(
            pipeline, seq, f"entry {entry.seq} stands in its place: entries were removed, added or reordered"
        )
    if entry.previous != previous:
        raise LedgerBroken(
            pipeline,
            seq,
            f"it does not continue the entry before it: expected previous hash {previous[:SHOWN]}, found {entry.previous[:SHOWN]}",
        )
    expected = entry.expected_hash()
    if entry.hash != expected:
        raise LedgerBroken(
            pipeline,
            seq,
            f"its content does not match its hash: expected {expected[:SHOWN]}, found {entry.hash[:SHOWN] or 'none'}; it was edited",
        )


def _refuse_unsigned(entry: LedgerEntry, signed: int, trusted: Trusted) -> None:
    pipeline, seq = entry.pipeline, entry.seq
    if entry.key and not entry.signature:
        raise LedgerBroken(
            pipeline, seq, f"expected a signature by key {entry.key[:SHOWN]}, found none: it was removed"
        )
    if entry.signature and not entry.key:
        raise LedgerBroken(pipeline, seq, "it has a signature but names no key: it was added by hand")
    if not entry.signature:
        if signed:
            raise LedgerBroken(
                pipeline,
                seq,
                f"expected a signature, because entry {signed} before it is signed, found none",
                f"Ratchet refuses to write this without a key, so ask {entry.actor!r}, who is named in it, and restore the "
                "ledger from the object store's versions",
            )
        return
    if not trusted:
        return
    holds = trusted.get(entry.key)
    if holds is None:
        raise LedgerBroken(
            pipeline,
            seq,
            f"expected a signature by a trusted key ({_short(trusted)}), found one by key {entry.key[:SHOWN] or 'of no name'}",
            "if that key is yours, add its public half to RATCHET_TRUSTED_KEYS; if it is not, restore the entry from the "
            "object store's versions",
        )
    if not holds(entry.hash, entry.signature):
        raise LedgerBroken(pipeline, seq, f"its signature is not one of its hash by key {entry.key[:SHOWN]}")


def _short(trusted: Trusted) -> str:
    return ", ".join(fingerprint[:SHOWN] for fingerprint in sorted(trusted))


def anchored(pipeline: str, entries: Sequence[LedgerEntry], anchors: Mapping[int, str]) -> tuple[LedgerEntry, ...]:
    """Return the entries that no anchor holds yet, when all that are anchored are still there as they were.

    A chain by itself cannot show that its end was cut off or written anew; the hashes kept elsewhere can.

    Raises:
        LedgerBroken: an anchored entry is gone, or is another now.
    """
    for seq, kept in sorted(anchors.items()):
        if seq > len(entries):
            raise LedgerBroken(
                pipeline,
                seq,
                f"expected hash {kept[:SHOWN]}, which the registry remembers, found no such entry: it is gone",
            )
        found = entries[seq - 1].hash if seq > 0 else ""
        if found != kept:
            raise LedgerBroken(
                pipeline,
                seq,
                f"expected hash {kept[:SHOWN]}, which the registry remembers, found {found[:SHOWN] or 'none'}: it was written anew",
            )
    return tuple(entry for entry in entries if entry.seq not in anchors)


def champion_of(entries: Sequence[LedgerEntry]) -> Champion | None:
    """Return who serves."""
    return entries[-1].champion if entries else None


def reign(entries: Sequence[LedgerEntry]) -> LedgerEntry | None:
    """Return the entry by which the champion of now came to serve."""
    return next((entry for entry in reversed(entries) if entry.action in TURNS), None)


def predecessor_of(entries: Sequence[LedgerEntry]) -> Champion | None:
    """Return who served before the champion of now, whatever came between."""
    head = reign(entries)
    return champion_of(entries[: head.seq - 1]) if head else None


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


def followed_by(entries: Sequence[LedgerEntry], entry: LedgerEntry) -> LedgerEntry | None:
    """Return the entry that ended the reign that another began."""
    return next((later for later in entries if later.seq > entry.seq and later.action in TURNS), None)


Plan = Literal["append", "done", "superseded", "frozen", "withdrawn"]


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
