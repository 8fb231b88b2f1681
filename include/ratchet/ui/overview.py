"""What the pages show, read from the ledger and the nights' records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.records import Record
from ratchet.errors import RatchetError
from ratchet.steps.history import nights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.night import Night
    from ratchet.steps.context import Services

LATEST = 14  # nights of the overview


class ShownNight(Record):
    """One night in a line."""

    cutoff: str
    outcome: str
    version: int | None
    metrics: str
    reason: str
    actor: str
    seconds: float
    dry_run: bool
    page: str | None  # where its report lies, relative to the plugin


class ShownEntry(Record):
    """One entry of the ledger in a line."""

    seq: int
    action: str
    version: int | None
    cutoff: str
    at: str
    actor: str
    reason: str


class Shown(Record):
    """One pipeline."""

    name: str
    ledger: tuple[ShownEntry, ...] = ()  # newest first
    nights: tuple[ShownNight, ...] = ()  # newest first
    problem: str | None = None  # why it cannot be shown

    @property
    def champion(self) -> ShownEntry | None:
        """Who serves."""
        return self.ledger[0] if self.ledger else None


def overview(services: Services, names: Iterable[str], limit: int = LATEST) -> list[Shown]:
    """Return where each pipeline stands; one that cannot be read says why, and hides no other."""
    return [look(services, name, limit) for name in names]


def look(services: Services, name: str, limit: int) -> Shown:
    """Return where one pipeline stands."""
    try:
        entries = services.ledger.entries(name)
        latest = nights(services, name, limit)
    except RatchetError as exc:
        return Shown(name=name, problem=str(exc))
    return Shown(name=name, ledger=tuple(_entry(e) for e in reversed(entries)), nights=tuple(_night(n) for n in latest))


def _night(night: Night) -> ShownNight:
    version = night.register_.version.version if night.register_ and night.register_.version else None
    found = list(night.evaluate.challenger.items())[:3] if night.evaluate else []
    return ShownNight(
        cutoff=str(night.request.cutoff),
        outcome=night.outcome,
        version=version,
        metrics=", ".join(f"{metric} {value:.4f}" for metric, value in found if value is not None),
        reason="; ".join(night.reasons),
        actor=night.request.actor,
        seconds=round(sum(night.seconds.values()), 1),
        dry_run=night.request.dry_run,
        page=night.report.page if night.report else None,
    )


def _entry(entry: LedgerEntry) -> ShownEntry:
    return ShownEntry(
        seq=entry.seq,
        action=entry.action,
        version=entry.champion.version if entry.champion else None,
        cutoff=str(entry.champion.cutoff) if entry.champion else "",
        at=entry.at,
        actor=entry.actor,
        reason=entry.reason,
    )
