"""Rollback: the champion goes back to one that served before, by a new ledger entry."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.domain.ledger import champion_of, line, reign, rollback_target
from ratchet.errors import ActionRefused, AlreadyExists
from ratchet.steps import fitness, turns
from ratchet.steps.champion import reconcile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.ledger import Champion, LedgerEntry
    from ratchet.domain.night import Night
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services

_TRIES = 5  # against entries, such as a freeze, that leave the champion as it was


def roll_back(  # noqa: PLR0913  what a person is asked
    services: Services,
    pipeline: Pipeline,
    *,
    to: int | None,
    actor: str,
    reason: str,
    automatic: bool = False,
    night: Night | None = None,
) -> LedgerEntry:
    """Send the champion back, and return the entry that does.

    Asking again for the same, by the same person for the same reason, finds the entry that did it. Who loses a race against
    another turn is told, because that was not what they saw.

    Args:
        services: the adapters.
        pipeline: whose champion.
        to: the version that shall serve; by default the last champion that served before.
        actor: who asks.
        reason: why.
        automatic: the watch asks, not a person.
        night: that the watch acts in; its rows are what the version has to score.

    Raises:
        ActionRefused: there is nobody to go back to, the version does not load or score, or somebody was faster.
        LedgerBroken: the ledger does not verify.
    """
    name, reason = pipeline.name, reason.strip()
    if not reason:
        raise ActionRefused("rollback", name, "it needs a reason; say why with --reason")
    first = services.ledger.entries(name)  # before the registry is asked, which takes seconds to wake
    seen = turns.read(services, name)
    run_key = night.run_key or "" if night else ""
    done = _done(seen, to, actor, reason, run_key)
    if done:
        reconcile(services, name)
        return done
    if reign(first) != reign(seen):
        raise _overtaken(name, seen)
    target, why = rollback_target(seen, to)
    if target is None:
        raise ActionRefused("rollback", name, why)
    fit, words = fitness.tried(services, pipeline, target, night)
    if not fit:
        raise ActionRefused("rollback", name, f"{words.rstrip('.')}. {_older(seen, target, name)}")
    asked = "by the watch" if automatic else why
    return _append(services, name, seen, target, actor=actor, reason=reason, night=run_key, reasons=(asked, words))


def newest_day(services: Services, name: str) -> date | None:
    """Return the newest day that any stored evidence of a pipeline has: a reign that begins now must not use it again."""
    found = [stored.uri.rpartition("/evidence/")[2] for stored in services.store.list(layout.evidence(name))]
    days = [date.fromisoformat(key.split("/dt=")[1][:10]) for key in found]
    days += [
        date.fromisoformat(stored.uri.rpartition("/")[2].removesuffix(".json"))
        for stored in services.store.list(layout.trials(name))
    ]
    return max(days, default=None)


def _done(entries: Sequence[LedgerEntry], to: int | None, actor: str, reason: str, run_key: str) -> LedgerEntry | None:
    """Return the entry that did just this, where nothing has come since."""
    head = reign(entries)
    if head is None or head.action != "rollback" or (head.actor, head.night) != (actor, run_key):
        return None
    same = head.champion is not None and to in {None, head.champion.version}
    return head if same and (run_key or head.reason == reason) else None


def _append(  # noqa: PLR0913  an entry's facts
    services: Services,
    name: str,
    seen: tuple[LedgerEntry, ...],
    target: Champion,
    *,
    actor: str,
    reason: str,
    night: str,
    reasons: tuple[str, ...],
) -> LedgerEntry:
    """Append to the ledger as it was seen; a freeze that came in between does not matter, a new champion does."""
    entries, judged_through = seen, newest_day(services, name)
    for _ in range(_TRIES):
        try:
            return turns.append(
                services,
                name,
                entries,
                "rollback",
                champion=target,
                judged_through=judged_through,
                actor=actor,
                reason=reason,
                night=night,
                reasons=reasons,
            )[-1]
        except AlreadyExists:
            entries = turns.read(services, name)
            if reign(entries) != reign(seen):
                break
    raise _overtaken(name, entries)


def _overtaken(name: str, entries: Sequence[LedgerEntry]) -> ActionRefused:
    head, serving = reign(entries), champion_of(entries)
    taken = f"{head.actor} was faster with entry {head.seq} ({head.action})" if head else "the ledger has changed"
    now = f"version {serving.version} serves now" if serving else "nobody serves now"
    return ActionRefused("rollback", name, f"{taken}; {now}. Look at it, and ask again if it is still wanted")


def _older(entries: Sequence[LedgerEntry], target: Champion, name: str) -> str:
    """Name the champion that served before the one that cannot."""
    serving = champion_of(entries)
    gone = {target.version, serving.version if serving else target.version}
    standing = [e.champion for e in line(entries) if e.champion]
    served = [e.champion for e in entries if e.champion]
    here = next((i for i, c in enumerate(standing) if c.version == target.version), None)
    before = standing[:here] if here is not None else served[: next(i for i, c in enumerate(served) if c == target)]
    older = next((c for c in reversed(before) if c.version not in gone), None)
    if older is None:
        return "No older champion is left; mend its artifact, or train anew"
    return (
        f"The next older champion is version {older.version}, cutoff {older.cutoff}: "
        f"`ratchet rollback {name} --to {older.version} --reason …`"
    )
