"""What the pages show, read from the ledger and the nights' records."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite, log
from typing import TYPE_CHECKING

from ratchet.domain.ledger import frozen, reign
from ratchet.domain.records import Record
from ratchet.errors import RatchetError
from ratchet.steps.history import nights

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratchet.domain.checks import Check
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
    approved_by: str
    reason: str  # what a person gave, else what the gates said


class Standing(Record):
    """Where the evidence of one gate stands, as the newest night judged it."""

    cutoff: str
    outcome: str
    share: float | None  # of the way to a decision, on the scale on which evidence grows; None: nothing is being proved
    reason: str


class ShownAlert(Record):
    """Something that a person should have heard of."""

    cutoff: str
    words: str
    remedy: str


class Shown(Record):
    """One pipeline."""

    name: str
    ledger: tuple[ShownEntry, ...] = ()  # newest first
    nights: tuple[ShownNight, ...] = ()  # newest first
    champion: ShownEntry | None = None  # the entry by which somebody serves
    frozen: str | None = None  # why nothing is promoted
    evidence: tuple[Standing, ...] = ()
    alerts: tuple[ShownAlert, ...] = ()  # of the shown nights, newest first
    problem: str | None = None  # why it cannot be shown


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
    serves, freeze = reign(entries), frozen(entries, datetime.now(UTC).date())
    return Shown(
        name=name,
        ledger=tuple(_entry(e) for e in reversed(entries)),
        nights=tuple(_night(n) for n in latest),
        champion=_entry(serves) if serves else None,
        frozen=_freeze(freeze) if freeze else None,
        evidence=_evidence(latest),
        alerts=tuple(_alerts(name, latest)),
    )


def newest_judged(nights: Iterable[Night]) -> Night | None:
    """Return the newest night with a verdict that counted."""
    return next((night for night in nights if night.gate and not night.request.dry_run), None)


def _evidence(nights: Iterable[Night]) -> tuple[Standing, ...]:
    night = newest_judged(nights)
    if night is None or night.gate is None:
        return ()
    return tuple(
        Standing(cutoff=str(night.request.cutoff), outcome=check.outcome, share=_share(check), reason=check.reason)
        for check in night.gate.verdict.checks
        if check.kind == "evidence"
    )


def _share(check: Check) -> float | None:
    if check.value is None or check.limit is None or not (isfinite(check.value) and check.limit > 1):
        return None
    return min(1.0, max(0.0, log(max(check.value, 1.0)) / log(check.limit)))


def _freeze(entry: LedgerEntry) -> str:
    until = f"until {entry.until}" if entry.until else "until it is thawed"
    return f"{until}, by {entry.actor} (entry {entry.seq}): {entry.reason}"


def _alerts(name: str, nights: Iterable[Night]) -> Iterator[ShownAlert]:
    for night in nights:
        for alert in night.alerts:
            yield ShownAlert(
                cutoff=str(night.request.cutoff), words=alert.words, remedy=alert.remedy.replace("PIPELINE", name)
            )


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
        at=entry.at[:16].replace("T", " "),
        actor=entry.actor,
        approved_by=entry.approved_by,
        reason=entry.reason or "; ".join(entry.reasons),
    )
