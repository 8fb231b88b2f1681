"""A challenger that is better on average and worse somewhere: what the average says, and what the slices say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.decisions.fits import BASE, BLIND, Job
from benchmarks.decisions.rules import SMOKE
from benchmarks.decisions.world import LOSS, broken

from ratchet.domain.case import CaseForPromotion, DayLoss
from ratchet.domain.checks import Outcome
from ratchet.domain.gates import SlicesGate
from ratchet.domain.losses import by_day, row_losses
from ratchet.domain.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.decisions.world import Floats, World

ORIGINS = ("EWR", "JFK", "LGA")
GATE = SlicesGate(kind="slices", column="origin", loss=LOSS)
MARGIN = 0.02
SHOWN = SlicesGate(kind="slices", column="origin", loss=LOSS, margin=MARGIN, proven=True)


@dataclass(frozen=True)
class Met:
    """One hold-out: whether the challenger is better on average, whether the slices let it through, and whether the spoilt origin did get worse there.

    ``shown``: whether it is let through where it must be shown that no slice loses more than the margin.
    """

    better: bool
    slices: bool
    shown: bool
    worse_there: bool


def nights(world: World, spoilt: str, log_odds: float, cutoffs: range) -> Iterator[Met]:
    """Put the demo's recipe against the one without weather, with one origin's predictions spoilt."""
    for c in cutoffs:
        theirs, y, days, origins = world.holdout(Job(BLIND, c, 0, horizon=100), c)
        ours, *_ = world.holdout(Job(BASE, c, 0), c)
        there = np.array([origin == spoilt for origin in origins])
        ours = np.where(there, broken(ours, log_odds), ours)
        yield _met(days, np.array(origins), row_losses(LOSS, y, theirs), row_losses(LOSS, y, ours), there)


def _met(days: list[str], origins: np.ndarray, champion: Floats, challenger: Floats, there: np.ndarray) -> Met:
    dates = np.array(days, dtype="datetime64[D]")
    case = CaseForPromotion(
        metrics={},
        champion=True,
        paired={LOSS: _paired(dates, champion, challenger)},
        slices={
            "origin": {
                origin: {LOSS: _paired(dates[here], champion[here], challenger[here])}
                for origin in ORIGINS
                for here in [origins == origin]
            }
        },
        smoke=SMOKE,
    )
    gain = champion - challenger
    return Met(
        slices=judge(case, (GATE,)).outcome is Outcome.PASS,
        shown=judge(case, (SHOWN,)).outcome is Outcome.PASS,
        better=bool(gain.mean() > 0),
        worse_there=bool(there.any() and gain[there].mean() < 0),
    )


def _paired(days: np.ndarray, champion: Floats, challenger: Floats) -> tuple[DayLoss, ...]:
    theirs = by_day(days, challenger)
    return tuple(
        DayLoss(day=day, rows=rows, champion=loss, challenger=theirs[day][1])
        for day, (rows, loss) in by_day(days, champion).items()
    )
