"""promote: append to the ledger by compare-and-swap, then let the alias follow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ratchet.domain.gates import Outcome
from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry, promotion_plan
from ratchet.domain.night import PromoteResult
from ratchet.domain.records import digest
from ratchet.errors import AlreadyExists
from ratchet.steps.champion import reconcile

if TYPE_CHECKING:
    from ratchet.steps.context import Context


def promote(ctx: Context) -> PromoteResult:
    """Make the challenger champion when its verdict is a PASS, it is approved, and nothing has come in between."""
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
    services.store.probe()
    entries = services.ledger.entries(name)
    head = entries[-1] if entries else None
    plan, why = promotion_plan(
        entries, run_key=ctx.run_key, cutoff=night.request.cutoff, judged_against=night.score.ledger_length
    )
    if plan == "append":
        entry = _entry(ctx, head)
        try:
            services.ledger.append(entry)
        except AlreadyExists:
            plan, why = "superseded", f"another run took entry {entry.seq} first"
        else:
            entries = (*entries, entry)
    repaired = reconcile(services, name)
    if plan == "superseded":
        return PromoteResult(promoted=False, entry=None, detail=f"superseded: {why}", repaired=repaired)
    ctx.say(f"the champion is version {entries[-1].champion.version} (ledger entry {entries[-1].seq}): {why}")
    mine = next(e.seq for e in reversed(entries) if e.champion.run_key == ctx.run_key)
    serves = entries[-1].champion.run_key == ctx.run_key
    return PromoteResult(
        promoted=True, entry=mine, detail=why, serves=serves, repaired=repaired if plan == "done" else None
    )


def _entry(ctx: Context, head: LedgerEntry | None) -> LedgerEntry:
    night, version = ctx.night, ctx.night.register_.version if ctx.night.register_ else None
    assert night.gate
    assert version, "only a dry run has no version"
    return LedgerEntry(
        seq=head.seq + 1 if head else 1,
        previous=head.hash if head else GENESIS,
        pipeline=ctx.pipeline.name,
        action="promote" if head else "bootstrap",
        champion=Champion(**version.model_dump(include=set(Champion.model_fields))),
        verdict=digest(night.gate.verdict.model_dump(mode="json")),
        reasons=night.gate.verdict.reasons,
        actor=night.request.actor,
        reason=night.request.reason,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    ).sealed()
