"""The ledger on an object store: one object per entry, appended by conditional put."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.ledger import SHOWN, LedgerEntry, verified
from ratchet.errors import LedgerBroken, ObjectNotFound, SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratchet.adapters.signing import PublicKey, Signer
    from ratchet.domain.snapshots import StoredObject
    from ratchet.ports import ObjectStore

_PARALLEL = 8


class ObjectLedger:
    """Fulfils ``ports.Ledger`` over any ``ports.ObjectStore``.

    Args:
        store: holds the entries.
        signer: signs what is appended; None: nothing is signed.
        trusted: keys whose signatures count, besides the signer's own; with any, a ledger must be signed.
    """

    def __init__(self, store: ObjectStore, signer: Signer | None = None, trusted: Iterable[PublicKey] = ()) -> None:
        self._store = store
        self._signer = signer
        self._keys = {key.fingerprint: key.holds for key in (*trusted, *([signer.public] if signer else ()))}
        self._read: dict[str, dict[tuple[str, str, int], LedgerEntry]] = {}  # by pipeline; an entry never changes

    @property
    def trusted(self) -> frozenset[str]:
        """See ``ports.Ledger.trusted``."""
        return frozenset(self._keys)

    def entries(self, pipeline: str) -> tuple[LedgerEntry, ...]:
        """See ``ports.Ledger.entries``."""
        stored = list(self._store.list(layout.ledger(pipeline)))
        known = self._read.get(pipeline, {})
        fresh = dict(
            self._fetched(pipeline, [(seq, s) for seq, s in enumerate(stored, start=1) if _mark(s) not in known])
        )
        found = {_mark(s): known.get(_mark(s)) or fresh[_mark(s)] for s in stored}
        held = verified(pipeline, tuple(found.values()), self._keys)
        self._read[pipeline] = found
        return held

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """See ``ports.Ledger.append``."""
        if self._signer:
            made = entry.model_copy(update={"key": self._signer.public.fingerprint}).sealed()
            made = made.model_copy(update={"signature": self._signer.sign(made.hash)})
        else:
            self._refuse_unsigned(entry)
            made = entry.sealed()
        self._store.create(layout.ledger_entry(made.pipeline, made.seq), made.as_json(indent=1).encode())
        return made

    def _refuse_unsigned(self, entry: LedgerEntry) -> None:
        """Refuse to go on unsigned where the ledger is signed, or ought to be: nobody could verify it from there on."""
        try:
            before = self._store.get(layout.ledger_entry(entry.pipeline, entry.seq - 1)) if entry.seq > 1 else None
        except ObjectNotFound:
            before = None
        last = _parsed(entry.pipeline, entry.seq - 1, before) if before else None
        if self._keys or (last and last.signature):
            why = (
                f"entry {last.seq} is signed by key {last.key[:SHOWN]}"
                if last and last.signature
                else "keys are trusted"
            )
            raise SettingsInvalid(
                "RATCHET_SIGNING_KEY",
                "",
                f"the private key to sign entry {entry.seq} of the ledger of {entry.pipeline} with, because {why}",
            )

    def _fetched(
        self, pipeline: str, wanted: Sequence[tuple[int, StoredObject]]
    ) -> Iterable[tuple[tuple[str, str, int], LedgerEntry]]:
        with ThreadPoolExecutor(_PARALLEL) as pool:
            bodies = list(pool.map(lambda item: self._store.get(item[1].uri), wanted))
        for (seq, stored), body in zip(wanted, bodies, strict=True):
            yield _mark(stored), _parsed(pipeline, seq, body, stored.uri)


def _mark(stored: StoredObject) -> tuple[str, str, int]:
    return stored.uri, stored.etag, stored.size


def _parsed(pipeline: str, seq: int, body: bytes, uri: str = "") -> LedgerEntry:
    place = uri or layout.ledger_entry(pipeline, seq)
    try:
        entry = LedgerEntry.model_validate_json(body)
    except ValidationError as exc:
        wrong = exc.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise LedgerBroken(
            pipeline, seq, f"{place} is not a ledger entry: {where}{': ' if where else ''}{wrong['msg']}"
        ) from exc
    if not place.endswith(layout.ledger_entry(entry.pipeline, entry.seq)):
        raise LedgerBroken(
            pipeline, seq, f"entry {entry.seq} of {entry.pipeline} lies at {place}: it was moved or copied there"
        )
    return entry
