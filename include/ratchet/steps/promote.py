"""promote: append to the ledger by compare-and-swap, then let the alias follow."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.domain.checks import Outcome
from ratchet.domain.ledger import Champion, champion_of, promotion_plan
from ratchet.domain.night import EvaluateResult, GateResult, Night, PromoteResult, RegisterResult, ScoreResult
from ratchet.domain.records import digest
from ratchet.domain.verdict import SMOKE_TEST
from ratchet.errors import ActionRefused, AlreadyExists, ArtifactTampered, ObjectNotFound
from ratchet.steps import turns
from ratchet.steps.approve import approve, refusal
from ratchet.steps.champion import reconcile
from ratchet.steps.context import Context
from ratchet.steps.rollback import newest_day

if TYPE_CHECKING:
    from ratchet.domain.ledger import LedgerEntry, Plan
    from ratchet.domain.models import ModelVersion
    from ratchet.domain.night import StepName
    from ratchet.domain.records import Record
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services

_SHOWN = 10  # versions, where one is asked for that there is not
_RECORDS: dict[StepName, type[Record]] = {
    "score": ScoreResult,
    "evaluate": EvaluateResult,
    "register": RegisterResult,
    "gate": GateResult,
}


def promote(ctx: Context) -> PromoteResult:
    """Make the candidate champion when its verdict is a PASS, it is approved, and nothing has come in between."""
    night, services, name = ctx.night, ctx.services, ctx.pipeline.name
    assert night.gate
    assert night.score
    problem = not_let_through(ctx.pipeline, night) or refusal(ctx.pipeline, night) or _not_whole(ctx)
    if problem:
        return PromoteResult(promoted=False, entry=None, detail=problem)
    if night.request.dry_run:
        return PromoteResult(promoted=False, entry=None, detail="a dry run: it would have been promoted")
    entries, plan, why = _turn(ctx)
    moved = reconcile(services, name)
    repaired = moved.words if moved and moved.by_hand else None
    if plan in {"superseded", "frozen", "withdrawn"}:
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


def _turn(ctx: Context) -> tuple[tuple[LedgerEntry, ...], Plan, str]:
    """Append to the ledger where the plan allows it, and return the ledger, and what was planned and why.

    Who comes second plans again: a freeze that came in between holds, and only another champion supersedes.
    """
    night, taken = ctx.night, 0
    assert night.score
    while True:
        entries = turns.read(ctx.services, ctx.pipeline.name)
        plan, why = promotion_plan(
            entries,
            night=ctx.run_key,
            cutoff=night.request.cutoff,
            judged_against=night.score.reign,
            today=datetime.now(UTC).date(),
        )
        if plan == "superseded" and taken:
            why = f"another run took entry {taken} first"
        if plan != "append":
            return entries, plan, why
        if deleted := _deleted(ctx):
            return entries, "withdrawn", deleted
        try:
            return _append(ctx, entries), plan, why
        except AlreadyExists:
            taken = len(entries) + 1


def _deleted(ctx: Context) -> str | None:
    """Say that whom the night would promote is not registered any more: the ledger must not name who cannot be found."""
    candidate = _candidate(ctx.night)
    assert candidate, "only a dry run has no version"
    there = ctx.services.registry.versions(ctx.pipeline.name)
    if any((v.version, v.run_key) == (candidate.version, candidate.run_key) for v in there):
        return None
    return f"version {candidate.version} was deleted from the registry since it was judged; a later night makes another"


def promote_version(services: Services, pipeline: Pipeline, version: int, *, actor: str, reason: str) -> Night:
    """Promote a registered version of a recorded night whose verdict was UNDECIDED, and return that night as it is then.

    Everything that the night's own promotion would check is checked again: who may, the recorded verdict, the digest, what
    the spec asks a person, a freeze, and that no other champion has come since.

    Raises:
        ActionRefused: one of these speaks against it.
    """
    night = _recorded(services, pipeline.name, version)
    request = night.request.model_copy(update={"override": True, "actor": actor, "reason": reason.strip()})
    night = night.model_copy(update={"request": request, "approve": None, "promote": None})
    assert night.gate
    if night.gate.verdict.outcome is Outcome.PASS:
        raise ActionRefused("promotion", pipeline.name, f"the night of version {version} passed; run it again instead")
    ctx = Context(pipeline=pipeline, night=night, services=services)
    ctx = replace(ctx, night=night.with_result("approve", approve(ctx)))
    result = promote(ctx)
    if not result.promoted:
        raise ActionRefused("promotion", pipeline.name, f"version {version}: {result.detail}")
    return ctx.night.with_result("promote", result)


def _recorded(services: Services, name: str, version: int) -> Night:
    """Return the night that made a version, with what its steps have recorded once and for all."""
    versions = {v.version: v for v in services.registry.versions(name)}
    if version not in versions:
        newest = ", ".join(str(v) for v in list(versions)[:_SHOWN]) or "none"
        raise ActionRefused("promotion", name, f"there is no version {version} of ours; the newest are: {newest}")
    found = versions[version]
    try:
        record = services.store.get(layout.night(name, found.cutoff, found.run_key[:16]))
    except ObjectNotFound as exc:
        raise ActionRefused("promotion", name, f"the night of version {version} is not recorded: {exc}") from exc
    night = Night.model_validate_json(record)
    for step, kind in _RECORDS.items():
        key = layout.step(name, found.run_key, f"{step}.json", dry_run=False)
        with suppress(ObjectNotFound):  # a result that a person could mend is not recorded for good
            night = night.with_result(step, kind.model_validate_json(services.store.get(key)))
    if night.run_key != found.run_key or not (night.gate and night.score and night.register_):
        raise ActionRefused("promotion", name, f"the night of version {version} was never judged")
    if night.register_.version != found:
        raise ActionRefused("promotion", name, f"version {version} is not what its night registered; look at its tags")
    return night


def not_let_through(pipeline: Pipeline, night: Night) -> str | None:
    """Say why the verdict lets nobody through, or None: it is a PASS, or somebody overrides it who may."""
    assert night.gate
    verdict, request = night.gate.verdict, night.request
    if verdict.outcome is Outcome.PASS:
        return None
    if not request.override:
        return f"the verdict is {verdict.outcome}"
    if not verdict.overridable:
        failed = [c.name for c in verdict.checks if c.outcome is not Outcome.PASS and c.kind == SMOKE_TEST]
        failed += [c.name for c in verdict.checks if c.outcome is Outcome.FAIL]
        return f"the verdict is {verdict.outcome} and cannot be overridden: {', '.join(dict.fromkeys(failed)) or 'it failed'}"
    return may_override(pipeline, request.actor, request.reason)


def may_override(pipeline: Pipeline, actor: str, reason: str) -> str | None:
    """Say why somebody may not override an UNDECIDED of this pipeline, or None."""
    allowed = pipeline.spec.override.allowed
    if actor not in allowed:
        who = f"these may (override.allowed): {', '.join(allowed)}" if allowed else "override.allowed names nobody"
        return f"{actor} may not override an UNDECIDED of {pipeline.name}; {who}"
    return None if reason.strip() else "an override needs a reason"


def overrides(night: Night) -> bool:
    """Say whether a night asks for what its verdict did not give."""
    return night.request.override and night.gate is not None and night.gate.verdict.outcome is Outcome.UNDECIDED


def _candidate(night: Night) -> ModelVersion | None:
    """Return whom the night promotes; an override is about the version that the verdict was about."""
    assert night.gate
    tonight = night.register_.version if night.register_ else None
    return tonight if overrides(night) else night.gate.candidate


def _not_whole(ctx: Context) -> str | None:
    """Say why the artifact is not the one that was evaluated; to tonight's own of a PASS the night has just seen."""
    night, candidate = ctx.night, _candidate(ctx.night)
    tonight = night.register_.version if night.register_ else None
    if candidate is None or (candidate == tonight and not overrides(night)):
        return None
    try:
        ctx.services.registry.download(candidate.mlflow_run_id, candidate.artifact_digest, fresh=True)
    except (ArtifactTampered, ObjectNotFound) as exc:
        return f"version {candidate.version} cannot be promoted: {exc}"
    return None


def _append(ctx: Context, entries: tuple[LedgerEntry, ...]) -> tuple[LedgerEntry, ...]:
    night, candidate = ctx.night, _candidate(ctx.night)
    assert night.gate
    assert candidate, "only a dry run has no version"
    return turns.append(
        ctx.services,
        ctx.pipeline.name,
        entries,
        "override" if overrides(night) else night.gate.action,
        champion=Champion(**candidate.model_dump(include=set(Champion.model_fields))),
        judged_through=max(night.request.cutoff, newest_day(ctx.services, ctx.pipeline.name) or night.request.cutoff),
        actor=night.request.actor,
        reason=night.request.reason,
        night=ctx.run_key,
        verdict=digest(night.gate.verdict.model_dump(mode="json")),
        certified="" if overrides(night) else night.gate.certified,
        reasons=night.gate.verdict.reasons,
        approved_by=night.approve.who if night.approve else "",
    )
