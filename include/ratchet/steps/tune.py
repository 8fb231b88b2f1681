"""tune: with which parameters tonight's challenger is fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.night import TuneResult

if TYPE_CHECKING:
    from ratchet.steps.context import Context


def tune(ctx: Context) -> TuneResult:
    """Choose the parameters of tonight's fit."""
    training = ctx.pipeline.spec.training
    return TuneResult(source="spec", params=training.params, why="the spec asks for no tuning")
