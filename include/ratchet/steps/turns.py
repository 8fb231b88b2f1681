"""The ledger, read and written: the chain verified against its anchors, entries appended by compare-and-swap."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from ratchet.domain.ledger import GENESIS, Action, Champion, LedgerEntry, anchored, champion_of
from ratchet.errors import RatchetError
from ratchet.steps.champion import lags, reconcile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.steps.context import Services

_LOG = logging.getLogger("ratchet")


def look(services: Services, pipeline: str) -> tuple[LedgerEntry, ...]:
    """Return the ledger, verified against the anchors, and write nothing: for questions.

    Raises:
        LedgerBroken: the chain does not hold, or its end was cut or written anew.
    """
    return _held(services, pipeline)[0]


def read(services: Services, pipeline: str) -> tuple[LedgerEntry, ...]:
    """Return the ledger, verified against the anchors; what a crash left half done, the alias and then the anchor, follows.

    Raises:
        LedgerBroken: the chain does not hold, or its end was cut or written anew.
    """
    entries, loose = _held(services, pipeline)
    if loose and lags(services, pipeline, entries):  # an alias that a hand has moved elsewhere is not touched here
        reconcile(services, pipeline)
    for entry in loose:
        services.registry.anchor(pipeline, entry.seq, entry.hash)
    return entries


def _held(services: Services, pipeline: str) -> tuple[tuple[LedgerEntry, ...], tuple[LedgerEntry, ...]]:
    """Return the verified entries, and those of them that have no anchor."""
    anchors = services.registry.anchors(pipeline)  # before the entries: one that is appended in between is not missed
    entries = services.ledger.entries(pipeline)
    return entries, anchored(pipeline, entries, anchors)


def append(  # noqa: PLR0913  an entry's facts
    services: Services,
    pipeline: str,
    entries: Sequence[LedgerEntry],
    action: Action,
    *,
    champion: Champion | None = None,
    judged_through: date | None = None,
    actor: str,
    reason: str,
    **facts: Any,
) -> tuple[LedgerEntry, ...]:
    """Append the entry that follows ``entries``, let the alias follow, anchor the entry, and return all of them.

    The anchor comes last, so that it also says that the alias has followed.

    Args:
        services: the adapters.
        pipeline: whose ledger.
        entries: the ledger as it was decided on; somebody else's entry since then makes this one lose.
        action: what is done.
        champion: who serves from here on; by default who does.
        judged_through: see ``LedgerEntry``; by default as before.
        actor: who does it.
        reason: why.
        facts: the entry's other fields.

    Raises:
        AlreadyExists: somebody else has taken that number.
        ConditionalWritesIgnored: the store would let two writers win.
    """
    services.store.probe()
    head = entries[-1] if entries else None
    entry = services.ledger.append(
        LedgerEntry(
            seq=head.seq + 1 if head else 1,
            previous=head.hash if head else GENESIS,
            pipeline=pipeline,
            action=action,
            champion=champion or champion_of(entries),
            judged_through=max(filter(None, (judged_through, head.judged_through if head else None)), default=date.min),
            actor=actor,
            reason=reason,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        )
    )
    reconcile(services, pipeline)
    services.registry.anchor(pipeline, entry.seq, entry.hash)
    _show(services, pipeline, (*entries, entry))
    return (*entries, entry)


def _show(services: Services, pipeline: str, entries: Sequence[LedgerEntry]) -> None:
    """Let the overview's index follow; the entry stands whether or not that can be done."""
    from ratchet.steps.overview import turned  # noqa: PLC0415  which reads ledgers, too

    try:
        turned(services, pipeline, entries)
    except RatchetError as exc:
        _LOG.warning("the overview of %s lags behind its ledger until the next night: %s", pipeline, exc)
