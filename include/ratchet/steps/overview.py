"""Where a pipeline stands, in a form that can be shown; and the index of it, so that an overview of thousands reads one small object each.

The index says nothing that nights and ledgers do not say, and no rule looks at it. Whoever appends to a ledger or ends a night
writes it anew; should that fail, the next night sets it right.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime
from math import isfinite, log
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.ledger import frozen, reign
from ratchet.domain.records import Record
from ratchet.domain.segments import SegmentsResult, parent_of
from ratchet.errors import ObjectNotFound, RatchetError
from ratchet.steps.history import nights

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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


class ShownSegments(Record):
    """The segments of a pipeline in a line."""

    cutoff: str  # of the night that is told of
    words: str
    total: int
    own: int  # are served by a champion of their own
    failed: int  # whose night went wrong


class Shown(Record):
    """One pipeline."""

    name: str
    ledger: tuple[ShownEntry, ...] = ()  # newest first
    nights: tuple[ShownNight, ...] = ()  # newest first
    champion: ShownEntry | None = None  # the entry by which somebody serves
    frozen: str | None = None  # why nothing is promoted
    frozen_until: date | None = None  # the last day on which that holds; None: until it is thawed
    evidence: tuple[Standing, ...] = ()
    alerts: tuple[ShownAlert, ...] = ()  # of the shown nights, newest first
    segments: ShownSegments | None = None  # of the newest night that had any
    problem: str | None = None  # why it cannot be shown


def look(services: Services, name: str, limit: int) -> Shown:
    """Return where one pipeline stands."""
    try:
        entries = services.ledger.entries(name)
        latest = nights(services, name, limit)
    except RatchetError as exc:
        return Shown(name=name, problem=str(exc))
    return shown(name, entries, latest)


def shown(name: str, entries: Sequence[LedgerEntry], latest: Sequence[Night]) -> Shown:
    """Return where a pipeline stands by its ledger and its nights, newest first."""
    return Shown(
        name=name,
        ledger=tuple(_entry(e) for e in reversed(entries)),
        nights=tuple(_night(n) for n in latest),
        evidence=_evidence(latest),
        alerts=tuple(_alerts(name, latest)),
        **_serving(entries),
    )


def keep(services: Services, found: Shown) -> None:
    """Write a pipeline's index; the whole ledger and more nights than the overview shows are left to the pipeline's own page."""
    short = found.model_copy(update={"ledger": (), "nights": found.nights[:LATEST]})
    services.store.put(layout.overview(found.name), short.model_dump_json().encode())


def turned(services: Services, name: str, entries: Sequence[LedgerEntry]) -> None:
    """Let the index follow a ledger that was appended to; where there is no index yet, the next night makes it."""
    _change(services, name, {**_serving(entries), "problem": None})


def segmented(services: Services, made: SegmentsResult) -> None:
    """Let the index follow the nights of the segments."""
    _change(services, made.pipeline, {"segments": _in_a_line(made)})


def with_segments(services: Services, found: Shown) -> Shown:
    """Return what is shown of a pipeline, with its segments as the newest night has left them."""
    made = newest(services, found.name)
    return found.model_copy(update={"segments": _in_a_line(made)}) if made else found


def newest(services: Services, pipeline: str) -> SegmentsResult | None:
    """Return what became of the segments in the newest night that was no dry run; None: there has been none."""
    stored = sorted((s.uri for s in services.store.list(layout.segments(pipeline))), reverse=True)
    for uri in (uri for uri in stored if not uri.endswith("-dry.json")):
        with suppress(ValidationError):  # of another version
            return SegmentsResult.model_validate_json(services.store.get(uri))
    return None


def _in_a_line(made: SegmentsResult) -> ShownSegments:
    return ShownSegments(
        cutoff=str(made.cutoff),
        words=made.words[:500],
        total=len(made.segments),
        own=made.own,
        failed=len(made.failed),
    )


def _change(services: Services, name: str, changed: dict[str, object]) -> None:
    if parent_of(name) != name:  # the overview shows pipelines
        return
    found = indexed(services, name)
    if found is not None:
        keep(services, found.model_copy(update=changed))


def indexed(services: Services, name: str) -> Shown | None:
    """Return what a pipeline's index says; None where there is none, or another version wrote it."""
    try:
        return read(services.store.get(layout.overview(name)))
    except ObjectNotFound:
        return None


def read(data: bytes) -> Shown | None:
    """Read an index; None where another version wrote it."""
    try:
        found = Shown.model_validate_json(data)
    except ValidationError:
        return None
    return as_of_today(found)


def as_of_today(found: Shown) -> Shown:
    """Return an index without a freeze that is over by now."""
    over = found.frozen_until is not None and found.frozen_until < datetime.now(UTC).date()
    return found.model_copy(update={"frozen": None, "frozen_until": None}) if over else found


def _serving(entries: Sequence[LedgerEntry]) -> dict[str, object]:
    """Return the fields that the ledger decides."""
    serves, freeze = reign(entries), frozen(entries, datetime.now(UTC).date())
    return {
        "champion": _entry(serves) if serves else None,
        "frozen": _freeze(freeze) if freeze else None,
        "frozen_until": freeze.until if freeze else None,
    }


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
