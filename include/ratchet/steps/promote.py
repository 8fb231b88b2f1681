"""promote: append to the ledger by compare-and-swap, then let the alias follow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ratchet.domain.checks import Outcome
from ratchet.domain.ledger import Champion, champion_of, promotion_plan
from ratchet.domain.night import PromoteResult
from ratchet.domain.records import digest
from ratchet.errors import AlreadyExists
from ratchet.steps import turns
from ratchet.steps.champion import reconcile

if TYPE_CHECKING:
    from ratchet.domain.ledger import LedgerEntry
    from ratchet.steps.context import Context


def promote(ctx: Context) -> PromoteResult:
    """Make the candidate champion when its verdict is a PASS, it is approved, and nothing has come in between."""
    night, services, name = ctx.night, ctx.services, ctx.pipeline.name
    assert night.gate
    assert night.score
    verdict = night.gate.verdict
    if verdict.outcome is not Outcome.PASS:
        return PromoteResult(promoted=False, entry=None, detail=f"the verdict is {verdict.outcome}")
    if not (night.approve and night.approve.approved):
        return PromoteResult(
            promoted=False,
            entry=None,
            detail=f"not approved: {night.approve.reason if night.approve else 'nobody was asked'}",
        )
    if night.request.dry_run:
        return PromoteResult(promoted=False, entry=None, detail="a dry run: it would have been promoted")
    entries = turns.read(services, name)
    plan, why = promotion_plan(
        entries,
        night=ctx.run_key,
        cutoff=night.request.cutoff,
        judged_against=night.score.reign,
        today=datetime.now(UTC).date(),
    )
    if plan == "append":
        try:
            entries = _append(ctx, entries)
        except AlreadyExists:
            plan, why = "superseded", f"another run took entry {len(entries) + 1} first"
    repaired = reconcile(services, name)
    if plan in {"superseded", "frozen"}:
        return PromoteResult(promoted=False, entry=None, detail=f"{plan}: {why}", repaired=repaired)
    mine = next(e for e in reversed(entries) if e.night == ctx.run_key and e.action != "rollback")
    assert mine.champion, "a promotion names whom it promotes"
    serving = champion_of(entries)
    ctx.say(f"the champion is version {serving.version if serving else None} (ledger entry {entries[-1].seq}): {why}")
    return PromoteResult(
        promoted=True,
        entry=mine.seq,
        detail=why,
        version=mine.champion.version,
        appended=plan == "append",
        serves=serving == mine.champion,
        repaired=repaired if plan == "done" else None,
    )


def _append(ctx: Context, entries: tuple[LedgerEntry, ...]) -> tuple[LedgerEntry, ...]:
    night = ctx.night
    assert night.gate
    assert night.gate.candidate, "only a dry run has no version"
    return turns.append(
        ctx.services,
        ctx.pipeline.name,
        entries,
        night.gate.action,
        champion=Champion(**night.gate.candidate.model_dump(include=set(Champion.model_fields))),
        judged_through=night.request.cutoff,
        actor=night.request.actor,
        reason=night.request.reason,
        night=ctx.run_key,
        verdict=digest(night.gate.verdict.model_dump(mode="json")),
        certified=night.gate.certified,
        reasons=night.gate.verdict.reasons,
        approved_by=night.approve.who if night.approve else "",
    )
