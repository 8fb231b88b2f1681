"""Freeze and thaw: no promotion until further notice; nights go on judging, and a rollback is still possible."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from ratchet.domain.ledger import frozen
from ratchet.errors import ActionRefused, AlreadyExists
from ratchet.steps import turns
from ratchet.steps.champion import reconcile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.steps.context import Services

_TRIES = 10  # against promoters that take the number first


def freeze(services: Services, name: str, *, actor: str, reason: str, until: date | None) -> LedgerEntry:
    """Let nobody be promoted up to and including a day, or until a thaw; a later freeze takes an earlier one's place.

    Raises:
        ActionRefused: no reason is given, or the day has passed.
        LedgerBroken: the ledger does not verify.
    """
    today = datetime.now(UTC).date()
    if until is not None and until < today:
        raise ActionRefused("freeze", name, f"--until {until} has passed; today is {today} (UTC)")
    return _append(services, name, "freeze", actor=actor, reason=reason, until=until)


def thaw(services: Services, name: str, *, actor: str, reason: str) -> LedgerEntry:
    """Let promotions go on.

    Raises:
        ActionRefused: no reason is given, or it is not frozen.
        LedgerBroken: the ledger does not verify.
    """
    return _append(services, name, "thaw", actor=actor, reason=reason, until=None)


def _append(
    services: Services, name: str, action: Literal["freeze", "thaw"], *, actor: str, reason: str, until: date | None
) -> LedgerEntry:
    reason = reason.strip()
    if not reason:
        raise ActionRefused(action, name, "it needs a reason; say why with --reason")
    for _ in range(_TRIES):
        entries = turns.read(services, name)
        last = _last(entries)
        if last and (last.action, last.actor, last.reason, last.until) == (action, actor, reason, until):
            reconcile(services, name)
            return last  # asked for twice
        if action == "thaw" and not frozen(entries, datetime.now(UTC).date()):
            raise ActionRefused("thaw", name, "it is not frozen")
        try:
            return turns.append(services, name, entries, action, actor=actor, reason=reason, until=until)[-1]
        except AlreadyExists:
            continue
    raise ActionRefused(action, name, "others append to its ledger again and again; try once more")


def _last(entries: Sequence[LedgerEntry]) -> LedgerEntry | None:
    return next((entry for entry in reversed(entries) if entry.action in {"freeze", "thaw"}), None)
