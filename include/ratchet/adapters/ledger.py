"""The ledger on an object store: one object per entry, appended by conditional put."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.ledger import LedgerEntry, verified
from ratchet.errors import LedgerBroken

if TYPE_CHECKING:
    from ratchet.ports import ObjectStore


class ObjectLedger:
    """Fulfils ``ports.Ledger`` over any ``ports.ObjectStore``."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def entries(self, pipeline: str) -> tuple[LedgerEntry, ...]:
        """See ``ports.Ledger.entries``."""
        found = []
        for seq, stored in enumerate(self._store.list(layout.ledger(pipeline)), start=1):
            try:
                found.append(LedgerEntry.model_validate_json(self._store.get(stored.uri)))
            except ValidationError as exc:
                raise LedgerBroken(
                    pipeline, seq, f"{stored.uri} is not a ledger entry: {exc.errors()[0]['msg']}"
                ) from exc
        return verified(pipeline, found)

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """See ``ports.Ledger.append``."""
        made = entry.sealed()
        self._store.create(layout.ledger_entry(made.pipeline, made.seq), made.model_dump_json(indent=1).encode())
        return made
