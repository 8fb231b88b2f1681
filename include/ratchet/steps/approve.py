"""approve: a person stands between the verdict and the promotion, where the spec asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.night import ApproveResult

if TYPE_CHECKING:
    from ratchet.domain.night import Night
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Context


def asks(pipeline: Pipeline, night: Night) -> tuple[str, ...]:
    """Say, a sentence each, why the spec asks for a person before this night promotes anybody; empty where it does not."""
    return tuple(f"the spec asks for it ({when})" for when in pipeline.spec.approval.when) if night.gate else ()


def approve(ctx: Context) -> ApproveResult:
    """Say whether the night may go on without a person. Where one is needed, only Airflow can ask; no answer means no."""
    why = asks(ctx.pipeline, ctx.night)
    if not why:
        return ApproveResult(required=False, approved=True)
    return ApproveResult(
        required=True,
        approved=False,
        why=why,
        reason=f"{'; '.join(why)}: approval is given in the Airflow UI, and nobody was asked",
    )
