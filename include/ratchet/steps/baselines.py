"""What a challenger must beat to be worth having: predictions that need no booster, on the same hold-out.

Every night computes them, whatever the gates are: they are shown, and the verdict asks that each is beaten. Of a segment's the global
model is one: it would serve the segment otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.case import BaselineDay, MustBeat
from ratchet.domain.gates import RECENT_DAYS, BaselineGate, baseline_key
from ratchet.domain.windows import DAY
from ratchet.steps.of_all_rows import GLOBAL, global_days

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from ratchet.domain.gates import Baseline, Loss
    from ratchet.domain.windows import Windows
    from ratchet.steps.context import Context
    from ratchet.steps.measures import Scored
    from ratchet.tables import FeatureFrame, Floats

_LINEAR_ROWS = 50_000  # that the linear baseline learns from, evenly over the days


def baselines(ctx: Context, frame: FeatureFrame, challenger: Scored) -> dict[str, Any]:
    """Return the fields of a case that tell of baselines.

    Args:
        ctx: the night.
        frame: the challenger's features of the whole window.
        challenger: on the hold-out.
    """
    spec = ctx.pipeline.spec
    asked = MustBeat(loss=spec.loss, baselines=tuple(baseline_key(name) for name in spec.evaluation.baselines))
    found: dict[str, dict[str, tuple[BaselineDay, ...]]] = {}
    for (name, days), losses in _wanted(ctx).items():
        predictions = predicted(ctx, frame, challenger, name, days)
        if predictions is not None:
            found[baseline_key(name, days)] = against(challenger, predictions, losses)
    if ctx.night.of_all:
        asked = asked.model_copy(update={"baselines": (*asked.baselines, GLOBAL)})
        if told := global_days(ctx, challenger, spec.loss):
            found[GLOBAL] = {spec.loss: told}
    return {"baselines": found, "must_beat": asked}


def _wanted(ctx: Context) -> Mapping[tuple[Baseline, int], list[Loss]]:
    """Return which baselines are computed, and by which losses they are compared: those that are shown every night, and those of gates."""
    loss = ctx.pipeline.spec.loss
    wanted: dict[tuple[Baseline, int], list[Loss]] = {
        ("average", RECENT_DAYS): [loss],
        ("recent", RECENT_DAYS): [loss],
        ("linear", RECENT_DAYS): [loss],
    }
    for gate in ctx.pipeline.spec.gates:
        for name in gate.baselines if isinstance(gate, BaselineGate) else ():
            assert isinstance(gate, BaselineGate)
            losses = wanted.setdefault((name, gate.recent_days if name == "recent" else RECENT_DAYS), [])
            losses += [gate.loss] if gate.loss not in losses else []
    return wanted


def predicted(ctx: Context, frame: FeatureFrame, challenger: Scored, name: Baseline, recent_days: int) -> Floats | None:
    """Return what a baseline predicts for the hold-out; None where it has no day to learn from."""
    first, last = ctx.windows.fit.first, ctx.windows.stop.last
    trainer = ctx.services.trainer
    if name == "linear":
        before = frame.spread(first, last, _LINEAR_ROWS)
        return trainer.linear(challenger.files, before, challenger.table) if before.num_rows else None
    if name == "recent":
        first = _newest(frame, ctx.windows, recent_days)
    past = trainer.labels(challenger.files, frame.days(first, last, ("target",)))
    if not len(past):
        return None
    constant: Any = past.mean()  # of a ranking: no order at all
    if challenger.classes and challenger.predictions.ndim > 1:
        constant = np.array([(past == i).mean() for i in range(len(challenger.classes))])
    elif challenger.measuring.quantiles:
        constant = np.quantile(past, challenger.measuring.quantiles)
    return np.broadcast_to(constant, challenger.predictions.shape)


def _newest(frame: FeatureFrame, windows: Windows, count: int) -> date:
    """Return the first of the newest days with rows before the hold-out: shops close on Sundays, and storms have a season."""
    earliest, last, reach = windows.fit.first, windows.stop.last, count
    while True:
        first = max(earliest, last - DAY * (reach - 1))
        days = np.unique(frame.days(first, last, ("dt",))["dt"].to_numpy())
        if len(days) >= count:
            found: date = days[-count].astype("datetime64[D]").item()
            return found
        if first == earliest:
            return earliest
        reach *= 2


def against(challenger: Scored, predictions: Floats, losses: list[Loss]) -> dict[str, tuple[BaselineDay, ...]]:
    """Return, by loss, the daily means of other predictions for the challenger's rows beside its own."""
    found: dict[str, tuple[BaselineDay, ...]] = {}
    for loss in losses:
        theirs, ours = challenger.daily(loss, predictions=predictions), challenger.daily(loss)
        found[loss] = tuple(
            BaselineDay(day=day, rows=rows, baseline=value, challenger=ours[day][1])
            for day, (rows, value) in theirs.items()
        )
    return found
