"""Statistics over days: the interval of the classic gate and the e-process of the anytime-valid one."""

from __future__ import annotations

from math import ceil, exp, isfinite, log, sqrt
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

# The e-process of GATES: scale from past days only, two bets, outcomes clipped.
_DECAY = 0.97
_PRIOR_DAYS = 5.0
_CLIP = 2.0
_BETS = (0.2, 0.45)
_LEAST = 1e-12  # of a scale
_NEVER = 10_000  # nights; a proof further off than that is not in sight
_LOG_CAP = 600.0  # exp() beyond this overflows; an E that large has decided long ago


class Evidence(Record):
    """One scored day of a reign: the paired difference of mean losses, and what it was measured on."""

    day: str  # ISO date
    rows: int
    champion: int  # model version
    challenger: int  # model version
    difference: float  # loss(champion) − loss(challenger); positive where the challenger is better
    scale: float  # a typical size of a daily difference, known before the first day


class EProcess(Record):
    """Where the evidence stands."""

    better: float  # E that the challengers are better
    worse: float  # the mirrored process
    days: int
    signal_to_noise: float
    problem: str | None = None

    def nights_left(self, alpha: float) -> int | None:
        """Project how many more nights a PASS takes if E goes on growing as it has; None when it is not in sight."""
        if self.better <= 1 or not self.days:
            return None
        nights = (-log(alpha) - log(self.better)) * self.days / log(self.better)
        return max(1, ceil(nights)) if nights < _NEVER else None


def e_process(evidence: Sequence[Evidence], *, margin: float) -> EProcess:
    """Bet on the challengers, one day at a time.

    Under the null, that the challengers are on average no better given the past, each factor has a conditional mean of at
    most 1, so the wealth is a supermartingale, and by Ville's inequality it exceeds 1/α with probability at most α, however
    often somebody looks (Choe & Ramdas, arXiv 2110.00115). The scale of a day's outcome comes from the days before it.
    Repeated days count once, in order of the day; a day told in two ways is a problem.
    """
    days_by = {e.day: e for e in evidence}
    days = sorted(days_by.values(), key=lambda e: e.day)
    none = EProcess(better=1.0, worse=1.0, days=0, signal_to_noise=0.0)
    if not days:
        return none
    if not all(isfinite(e.difference) and isfinite(e.scale) for e in days) or not isfinite(margin):
        return none.model_copy(update={"problem": "a daily difference is not a finite number"})
    if any((e.difference, e.scale) != (days_by[e.day].difference, days_by[e.day].scale) for e in evidence):
        return none.model_copy(update={"problem": "a day is told in two ways"})
    prior = max(days[0].scale, _LEAST)
    total, weight = _PRIOR_DAYS * prior * prior, _PRIOR_DAYS
    up, down = [0.0] * len(_BETS), [0.0] * len(_BETS)
    outcomes: list[float] = []
    for e in days:
        v = e.difference + margin
        scale = sqrt(total / weight) or _LEAST  # years of days that are all equal wear it down to nothing
        x = min(max(v / scale, -_CLIP), _CLIP)
        up = [w + log(1 + bet * x) for w, bet in zip(up, _BETS, strict=True)]
        down = [
            w + log(1 - bet * min(max((e.difference - margin) / scale, -_CLIP), _CLIP))
            for w, bet in zip(down, _BETS, strict=True)
        ]
        outcomes.append(x)
        total, weight = _DECAY * total + v * v, _DECAY * weight + 1
        if not isfinite(total):
            return none.model_copy(update={"problem": "the daily differences are too large to compare"})
    spread = stdev(outcomes) if len(outcomes) > 1 else 0.0
    return EProcess(
        better=_mean_exp(up),
        worse=_mean_exp(down),
        days=len(days),
        signal_to_noise=fmean(outcomes) / spread if spread > 0 else 0.0,
    )


def _mean_exp(logs: Sequence[float]) -> float:
    return fmean(exp(min(w, _LOG_CAP)) for w in logs)


def lower_and_upper(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Return the mean of ``values`` and its lower and upper one-sided confidence bounds by Student's t."""
    from scipy.special import stdtrit

    n = len(values)
    mean = sum(values) / n
    spread = sqrt(sum((v - mean) * (v - mean) for v in values) / (n - 1))
    reach = float(stdtrit(n - 1, confidence)) * spread / sqrt(n)
    return mean, mean - reach, mean + reach
