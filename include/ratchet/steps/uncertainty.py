"""How sure the shown metrics are: intervals over days, of each model and of what the two differ by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.gates import LOSSES
from ratchet.domain.intervals import Told, differences, gain_interval, metric_intervals
from ratchet.steps.measures import Slices

if TYPE_CHECKING:
    from ratchet.domain.case import Difference
    from ratchet.domain.intervals import Interval
    from ratchet.steps.context import Context
    from ratchet.steps.measures import Common, Scored

_VALUES = 100  # of a slice column, those with most rows: whoever looks at more of them looks at noise
_BINS = 64  # of predictions in one of them


def intervals(ctx: Context, challenger: Scored, common: Common | None) -> dict[str, Interval]:
    """Return 95 % intervals by name: of each metric, of the largest values of each slice column, of the champion, and of its gains."""
    found = _of(challenger)
    for column in ctx.pipeline.spec.evaluation.slices:
        for value, here in Slices(challenger.table, column).largest(slice(None), _VALUES):
            lists = challenger.of_lists(here)
            some = metric_intervals(
                challenger.measuring,
                challenger.days[here],
                challenger.y[here],
                challenger.predictions[here],
                lists,
                bins=_BINS,
            )
            found |= {f"{name}[{column}={value}]": interval for name, interval in some.items()}
    if common:
        found |= {f"champion.{name}": interval for name, interval in _of(common.champion).items()}
        for loss in LOSSES[challenger.measuring.task]:
            interval = gain_interval([d.champion - d.challenger for d in common.paired(loss)])
            found |= {f"gain.{loss}": interval} if interval else {}
    return found


def paired_differences(ctx: Context, common: Common) -> dict[str, Difference]:
    """Compare both models' metrics on the rows that neither has seen: all of them, and the largest values of each slice column."""
    found = _compared(common, np.arange(common.rows), 0)
    for column in ctx.pipeline.spec.evaluation.slices:
        for value, here in Slices(common.challenger.table, column).largest(common.ours, _VALUES):
            some = _compared(common, here, _BINS)
            found |= {f"{name}[{column}={value}]": compared for name, compared in some.items()}
    return found


def _of(scored: Scored) -> dict[str, Interval]:
    return metric_intervals(scored.measuring, scored.days, scored.y, scored.predictions, scored.lists)


def _compared(common: Common, which: Any, bins: int) -> dict[str, Difference]:
    theirs, ours = common.theirs[which], common.ours[which]
    champion, challenger = common.champion, common.challenger
    return differences(
        challenger.measuring,
        challenger.days[ours],
        Told(champion.y[theirs], champion.predictions[theirs]),
        Told(challenger.y[ours], challenger.predictions[ours]),
        challenger.of_lists(ours),
        bins=bins,
    )
