"""gate: turn the evidence into a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.checks import Check, Outcome
from ratchet.domain.night import GateResult
from ratchet.domain.verdict import judge
from ratchet.steps.recorded import recorded

if TYPE_CHECKING:
    from ratchet.steps.context import Context


def gate(ctx: Context) -> GateResult:
    """Judge, record the verdict once, and tag the run with it."""

    def make() -> GateResult:
        assert ctx.night.evaluate
        assert ctx.night.register_
        problem = ctx.night.register_.smoke
        smoke = Check(
            name="smoke test",
            outcome=Outcome.FAIL if problem else Outcome.PASS,
            reason=problem or "the registered artifact, loaded in a fresh process, gives the evaluated predictions",
        )
        verdict = judge(
            ctx.night.evaluate.case.model_copy(update={"smoke": smoke, "cost": ctx.night.register_.cost}),
            ctx.pipeline.spec.gates,
        )
        return GateResult(
            verdict=verdict,
            candidate=ctx.night.register_.version,
            action="bootstrap" if verdict.bootstrap else "promote",
        )

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
    ctx.say(f"{verdict.outcome}: {'; '.join(verdict.reasons)}")
    return result
