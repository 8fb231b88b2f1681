"""The rules that are compared. Those of Ratchet are its own: a case is put before ``judge``, every night."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from math import ceil, log, sqrt
from typing import TYPE_CHECKING, Protocol

import numpy as np
from benchmarks.decisions.world import LOSS

from ratchet.domain.case import CaseForPromotion, DayLoss, MetricValue
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.evidence import Shadow, Trial
from ratchet.domain.gates import ChampionGate, EvidenceGate
from ratchet.domain.models import ModelVersion
from ratchet.domain.statistics import Evidence
from ratchet.domain.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.decisions.world import Floats

    from ratchet.domain.gates import Gate

ALPHA = 0.05
NORMAL_95 = 1.6449  # one-sided, of thousands of rows
SMOKE = Check(name="smoke test", outcome=Outcome.PASS, reason="nothing to load")


def shadow(version: int, made: date, days: Mapping[str, float]) -> Shadow:
    """Return a challenger that has scored days in shadow."""
    named = ModelVersion(
        version=version, run_key=str(version), mlflow_run_id="", artifact_digest="", seen_through=made, cutoff=made
    )
    return Shadow(version=named, sound=True, days={day: {LOSS: loss} for day, loss in days.items()})


READY = (
    shadow(1, date(2013, 1, 1), {f"2013-01-0{day}": 0.0 for day in range(2, 7)}),
)  # somebody who could be promoted
# Somebody whom a proof can promote: whether there is one is not what is counted here.
SHADOW = Shadow(
    version=ModelVersion(
        version=2, run_key="", mlflow_run_id="", artifact_digest="", seen_through=date.min, cutoff=date.min
    ),
    sound=True,
    days={str(day): {LOSS: 0.0} for day in range(3)},
)


FASTEST = 1.9  # no day multiplies E by more: its bets are at most .45 on an outcome of at most 2


class Reign(list[Evidence]):
    """The evidence of a reign, and how many days it must have before it is worth asking again."""

    asleep = 0


@dataclass(frozen=True)
class Sight:
    """What a night sees: both models on the hold-out's days, and the evidence of the reign so far."""

    names: Sequence[str]  # of the hold-out's days
    rows: Floats
    champion: Floats  # mean losses by day
    challenger: Floats
    squares: Floats  # mean square of the rows' differences
    evidence: Sequence[Evidence] = ()
    metrics: Mapping[str, MetricValue] = field(default_factory=dict)
    shadows: tuple[Shadow, ...] = READY

    @property
    def trial(self) -> Trial:
        """What the evidence gate weighs."""
        return Trial(lane="refresh", evidence={LOSS: tuple(self.evidence)}, shadows=self.shadows)


class Rule(Protocol):
    """Says whether tonight promotes."""

    def __call__(self, sight: Sight) -> bool:
        """Decide."""


def naive(sight: Sight) -> bool:
    """Promote whoever is no worse on the hold-out."""
    return bool(np.dot(sight.champion - sight.challenger, sight.rows) >= 0)


def by_rows(sight: Sight) -> bool:
    """Promote by a paired t test over the hold-out's rows, as if they were independent."""
    n = float(sight.rows.sum())
    mean = float(np.dot(sight.champion - sight.challenger, sight.rows)) / n
    spread = float(np.dot(sight.squares, sight.rows)) / n - mean * mean
    return spread > 0 and mean / sqrt(spread / n) > NORMAL_95


@dataclass(frozen=True)
class Judged:
    """Promote what Ratchet's verdict lets through."""

    gates: tuple[Gate, ...]

    @property
    def slow(self) -> bool:
        """Whether it is rare enough in its errors, and costly enough, to be counted more often than others."""
        return any(isinstance(gate, EvidenceGate) for gate in self.gates)

    def __call__(self, sight: Sight) -> bool:
        """Put the case before the judge, unless it is certain that E cannot have got there yet."""
        days = len(sight.evidence)
        if self.slow and isinstance(sight.evidence, Reign) and days < sight.evidence.asleep:
            return False
        paired: tuple[DayLoss, ...] = ()
        if any(isinstance(gate, ChampionGate) for gate in self.gates):
            paired = tuple(
                DayLoss(day=day, rows=int(rows), champion=ours, challenger=theirs)
                for day, rows, ours, theirs in zip(
                    sight.names, sight.rows, sight.champion.tolist(), sight.challenger.tolist(), strict=True
                )
            )
        case = CaseForPromotion(
            metrics=dict(sight.metrics),
            champion=True,
            paired={LOSS: paired},
            trial=Trial(lane="recipe", evidence={LOSS: tuple(sight.evidence)}, shadows=(SHADOW,)),
            smoke=SMOKE,
        )
        verdict = judge(case, self.gates)
        if self.slow and isinstance(sight.evidence, Reign):
            sight.evidence.asleep = days + nights_to_wait(verdict.checks[0].value or 1.0, 1 / ALPHA)
        return verdict.outcome is Outcome.PASS


def nights_to_wait(value: float, needed: float) -> int:
    """Return after how many nights at the earliest E can have grown to what is needed."""
    return max(1, ceil(log(needed / value) / log(FASTEST))) if value > 0 else 1


def interval(margin: float) -> Judged:
    """Return the classic gate over the days of the hold-out."""
    return Judged((ChampionGate(kind="champion", loss=LOSS, margin=margin),))


def evidence_gate() -> EvidenceGate:
    """Return the anytime-valid gate."""
    return EvidenceGate(kind="evidence", loss=LOSS, wrong_promotions_per_quarter=ALPHA)


def evidence() -> Judged:
    """Return the rule of the anytime-valid gate."""
    return Judged((evidence_gate(),))


def rules(margin: float) -> dict[str, Rule]:
    """Return every rule that decides night by night.

    Args:
        margin: of the classic gate, beside none.
    """
    return {
        "naive `>=`, 7-day hold-out": naive,
        "paired t over rows, 5 %": by_rows,
        "interval over days, margin 0": interval(0.0),
        f"interval over days, margin {margin:g}": interval(margin),
        "**e-process, E ≥ 20**": evidence(),
    }


def piece(day: str, rows: int, difference: float, scale: float) -> Evidence:
    """Return one day's evidence."""
    return Evidence(day=day, rows=rows, champion=1, challenger=2, difference=float(difference), scale=scale)


def usual(loss: float) -> float:
    """Return what the platform takes for a typical difference before it has seen one: a fiftieth of the champion's loss."""
    return 0.02 * loss
