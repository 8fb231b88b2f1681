"""gate: turn the evidence into a verdict, and say whom it promotes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.checks import Check, Outcome
from ratchet.domain.evidence import candidate, counting
from ratchet.domain.gates import EvidenceGate
from ratchet.domain.night import GateResult
from ratchet.domain.verdict import judge
from ratchet.steps.fleets import leave
from ratchet.steps.recorded import recorded

if TYPE_CHECKING:
    from ratchet.domain.verdict import Verdict
    from ratchet.steps.context import Context


def gate(ctx: Context) -> GateResult:
    """Judge, record the verdict once, and tag the run with it."""

    def make() -> GateResult:
        assert ctx.night.evaluate
        assert ctx.night.register_
        problem, again = ctx.night.register_.smoke, ctx.night.train and ctx.night.train.evaluated
        expected = (
            "the predictions of its fit; another one, without the hold-out, was judged"
            if again
            else "the evaluated predictions"
        )
        smoke = Check(
            name="smoke test",
            outcome=Outcome.FAIL if problem else Outcome.PASS,
            reason=problem or f"the registered artifact, loaded in a fresh process, gives {expected}",
        )
        tried = {"smoke": smoke, "cost": ctx.night.register_.cost}
        return _decided(ctx, judge(ctx.night.evaluate.case.model_copy(update=tried), ctx.pipeline.spec.gates))

    def final(_: GateResult) -> bool:
        """Say whether nothing that a person can mend speaks against the challenger."""
        assert ctx.night.evaluate
        assert ctx.night.register_
        return ctx.night.evaluate.case.champion_problem is None and ctx.night.register_.smoke is None

    result = recorded(ctx, "gate", GateResult, make, final=final)
    assert ctx.night.train
    verdict = result.verdict
    ctx.services.registry.log(
        ctx.night.train.mlflow_run_id,
        tags={"ratchet.verdict": verdict.outcome, "ratchet.reasons": "; ".join(verdict.reasons)},
    )
    if not ctx.night.request.dry_run:
        leave(ctx, _fleets(ctx))
    ctx.say(f"{verdict.outcome}: {'; '.join(verdict.reasons)}")
    return result


def _decided(ctx: Context, verdict: Verdict) -> GateResult:
    """Say whom the verdict is about: tonight's challenger, unless a proof speaks for one that has shadowed."""
    night = ctx.night
    assert night.evaluate
    assert night.register_
    trial, tonight = night.evaluate.case.trial, night.register_.version
    proofs = _proofs(ctx)
    if verdict.bootstrap:
        return GateResult(verdict=verdict, candidate=tonight, action="bootstrap")
    if not proofs or trial is None:
        return GateResult(verdict=verdict, candidate=tonight)
    proving = [proof for proof in proofs if not trial.automatic(proof)]
    if not proving:
        return GateResult(verdict=verdict, candidate=tonight, action="refresh")
    if verdict.outcome is not Outcome.PASS:
        return GateResult(verdict=verdict, candidate=tonight)
    chosen, _ = candidate(proving[0], trial)
    certified = night.recipe if trial.lane == "refresh" else ""
    return GateResult(verdict=verdict, candidate=chosen, certified=certified)


def _fleets(ctx: Context) -> dict[str, float | None]:
    """Return where this pipeline stands in each of its fleets: by the gate of it that is furthest from a proof."""
    assert ctx.night.evaluate
    stands: dict[str, float | None] = {}
    for proof in _proofs(ctx):
        if proof.fleet:
            found = counting(proof, ctx.night.evaluate.case.trial)
            known = [e for e in (found, stands.get(proof.fleet)) if e is not None]
            stands[proof.fleet] = min(known, default=None)
    return stands


def _proofs(ctx: Context) -> list[EvidenceGate]:
    return [gate for gate in ctx.pipeline.spec.gates if isinstance(gate, EvidenceGate)]
