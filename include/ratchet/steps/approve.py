"""approve: a person stands between the verdict and the promotion, where the spec asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.checks import Outcome
from ratchet.domain.night import ApproveResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ratchet.domain.case import CaseForPromotion, DayLoss
    from ratchet.domain.night import Night
    from ratchet.domain.promotion_rules import ApprovalWhen
    from ratchet.spec import Pipeline, PipelineSpec
    from ratchet.steps.context import Context


def approve(ctx: Context) -> ApproveResult:
    """Say whether the night may go on without a person. Where one is needed, only Airflow can ask; no answer means no."""
    why = asks(ctx.pipeline, ctx.night)
    if not why:
        return ApproveResult(required=False, approved=True)
    return ApproveResult(
        required=True,
        approved=False,
        why=why,
        reason=f"a person has to approve in the Airflow UI, and nobody was asked: {'; '.join(why)}",
    )


def asks(pipeline: Pipeline, night: Night) -> tuple[str, ...]:
    """Say, a sentence each, why the spec asks for a person before this night promotes anybody; empty where it does not.

    What cannot be told asks for a person too.
    """
    if night.gate is None:
        return ()
    return tuple(said for when in pipeline.spec.approval.when if (said := _ASKS[when](pipeline.spec, night)))


def refusal(pipeline: Pipeline, night: Night) -> str | None:
    """Say why a night may not promote anybody for want of a person's yes, or None; what tasks have handed on is not trusted."""
    why, answer = asks(pipeline, night), night.approve
    if answer is None or not answer.approved:
        return f"not approved: {answer.reason if answer else 'nobody was asked'}"
    if not why:
        return None
    if not answer.who:
        return f"not approved: no person has answered, and the spec asks for one: {'; '.join(why)}"
    approvers = pipeline.spec.approval.approvers
    if approvers and answer.who not in approvers:
        return f"not approved: {answer.who} may not approve; these may (approval.approvers): {', '.join(approvers)}"
    return None


def _always(_spec: PipelineSpec, _night: Night) -> str | None:
    return "the spec asks for a person before every promotion"


def _bootstrap(_spec: PipelineSpec, night: Night) -> str | None:
    assert night.gate
    return "it would be the first champion" if night.gate.verdict.bootstrap else None


def _override(_spec: PipelineSpec, night: Night) -> str | None:
    assert night.gate
    if not night.request.override or night.gate.verdict.outcome is not Outcome.UNDECIDED:
        return None
    return f"{night.request.actor} overrides an UNDECIDED: {night.request.reason}"


def _small_gain(spec: PipelineSpec, night: Night) -> str | None:
    assert night.gate
    if night.gate.verdict.bootstrap:
        return None
    gain, least = mean_gain(_days(spec, night)), spec.approval.small_gain
    if gain is None:
        return (
            f"how much {spec.loss} is gained over the champion cannot be told: they share no day that neither has seen"
        )
    if gain >= least:
        return None
    return f"the mean daily gain in {spec.loss} over the champion is {gain:+.5f}, below approval.small_gain {least:g}"


def _slice_worse(spec: PipelineSpec, night: Night) -> str | None:
    assert night.gate
    if night.gate.verdict.bootstrap:
        return None
    if night.evaluate is None or not night.evaluate.case.slices:
        return "whether a slice got worse cannot be told: no slice was compared with the champion's"
    worse = list(_worse(spec, night.evaluate.case))
    return f"worse than the champion by {spec.loss}: {', '.join(worse)}" if worse else None


def _worse(spec: PipelineSpec, case: CaseForPromotion) -> Iterator[str]:
    for column, values in sorted(case.slices.items()):
        for value, by in sorted(values.items()):
            gain = mean_gain(by.get(spec.loss, ()))
            if gain is None:
                yield f"{column}={value} (cannot be told)"
            elif gain < 0:
                yield f"{column}={value} ({gain:+.5f})"


def mean_gain(days: Sequence[DayLoss]) -> float | None:
    """Return by how much the challenger's loss is smaller than the champion's, on average over days."""
    return sum(d.champion - d.challenger for d in days) / len(days) if days else None


def _days(spec: PipelineSpec, night: Night) -> Sequence[DayLoss]:
    return night.evaluate.case.paired.get(spec.loss, ()) if night.evaluate else ()


_ASKS: dict[ApprovalWhen, Callable[[PipelineSpec, Night], str | None]] = {
    "always": _always,
    "bootstrap": _bootstrap,
    "override": _override,
    "small_gain": _small_gain,
    "slice_worse": _slice_worse,
}
