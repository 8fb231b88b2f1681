"""approve: a person stands between the verdict and the promotion, where the spec asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.night import ApproveResult

if TYPE_CHECKING:
    from ratchet.steps.context import Context


def approve(ctx: Context) -> ApproveResult:
    """Say whether the night may go on without a person. Where one is needed, only Airflow can ask; no answer means no."""
    if not ctx.pipeline.spec.approval.when:
        return ApproveResult(required=False, approved=True)
    return ApproveResult(
        required=True, approved=False, reason="the spec asks for approval in the Airflow UI, and nobody was asked"
    )
