"""Statistics over days: the interval of the classic gate, the e-process of the anytime-valid one, its watching form, and e-BH."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, exp, isfinite, log, log1p, sqrt
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, NamedTuple

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The e-process of GATES: scale from past days only, two bets, outcomes clipped.
_DECAY = 0.97
_PRIOR_DAYS = 5.0
_CLIP = 2.0
_BETS = (0.2, 0.45)
_LEAST = 1e-12  # of a scale
_NEVER = 365  # nights; whoever waits longer waits in vain
_LOG_CAP = 600.0  # exp() beyond this overflows; an E that large has decided long ago
_QUARTER = 91  # nights
# Days that follow each other like this break the bound; fewer of them cannot show it (GATES).
_PERSISTENT, _PERSISTENT_DAYS = 0.2, 10


class Evidence(Record):
    """One scored day of a reign: the paired difference of mean losses, and what it was measured on."""

    day: str  # ISO date
    rows: int
    champion: int  # model version
    challenger: int  # model version; 0: it was fitted for the trial only
    difference: float  # loss(champion) − loss(challenger); positive where the challenger is better
    scale: float  # a typical size of a daily difference, known before the first day
    replayed: bool = False  # made from history, before its recipe's first night


class EProcess(Record):
    """Where the evidence stands."""

    better: float  # E that the challengers are better
    worse: float  # the mirrored process
    days: int
    signal_to_noise: float
    autocorrelation: float = 0.0  # of each day's outcome with that of the day before
    problem: str | None = None

    @property
    def persistent(self) -> bool:
        """Whether good days follow good days by more than chance: then the bound holds only with half of α."""
        return (
            self.days >= _PERSISTENT_DAYS
            and self.autocorrelation > _PERSISTENT
            and self.autocorrelation > 1 / sqrt(self.days)  # its own standard error
        )

    def needed(self, alpha: float) -> float:
        """Return the E that proves: 1/α, and twice that where days are persistent."""
        return (2 if self.persistent else 1) / alpha

    def nights_left(self, alpha: float) -> int | None:
        """Project how many more nights a PASS takes; None when it is not in sight.

        E goes on growing as it has; where it has not yet, by the signal-to-noise of the days so far: about 2 ln(1/α) / SNR².
        """
        if not self.days:
            return None
        missing, grown = log(2 if self.persistent else 1) - log(alpha) - log(self.better), log(self.better)
        noise = self.signal_to_noise * self.signal_to_noise
        if grown > 0:
            nights = missing * self.days / grown
        elif self.signal_to_noise > 0 and noise > 0:
            nights = 2 * missing / noise
        else:
            return None
        return max(1, ceil(nights)) if nights <= _NEVER else None


def e_process(evidence: Sequence[Evidence], *, margin: float) -> EProcess:
    """Bet on the challengers, one day at a time.

    Under the null, that the challengers are on average no better given the past, each factor has a conditional mean of at
    most 1, so the wealth is a supermartingale, and by Ville's inequality it exceeds 1/α with probability at most α, however
    often somebody looks (Choe & Ramdas, arXiv 2110.00115). The scale of a day's outcome comes from the days before it.
    Repeated days count once, in order of the day; a day told in two ways is a problem.
    """
    days, problem = _outcomes(evidence, margin)
    if problem:
        return EProcess(better=1.0, worse=1.0, days=0, signal_to_noise=0.0, problem=problem)
    up, down = [0.0] * len(_BETS), [0.0] * len(_BETS)
    for day in days:
        up = [w + log(1 + bet * day.better) for w, bet in zip(up, _BETS, strict=True)]
        down = [w + log(1 + bet * day.worse) for w, bet in zip(down, _BETS, strict=True)]
    outcomes = [day.better for day in days]
    spread = stdev(outcomes) if len(outcomes) > 1 else 0.0
    return EProcess(
        better=_mean_exp(up),
        worse=_mean_exp(down),
        days=len(days),
        signal_to_noise=fmean(outcomes) / spread if spread > 0 else 0.0,
        autocorrelation=_autocorrelation(outcomes),
    )


class Detector(Record):
    """Where a watch over a stream without an end stands."""

    value: float  # R
    threshold: float
    days: int
    crossed: str | None  # the first day on which R reached the threshold; what follows does not unsay it
    problem: str | None = None


def detector(evidence: Sequence[Evidence], *, margin: float, alarms_per_quarter: float, monitors: int = 1) -> Detector:
    """Watch for the day from which on the challengers are better, by the Shiryaev-Roberts form of the e-process.

    ``R ← (R + 1)(1 + ηx)`` starts a new bet each day, so it finds a change that comes late, which an e-process has lost too
    much by then to find. While there is no change R has grown by at most one a day on average, so the first crossing
    of a threshold takes at least that many days on average (Shin, Ramdas & Rinaldo, e-detectors, arXiv 2203.03532).

    Args:
        evidence: as for ``e_process``; of a champion that is watched the challenger is its predecessor.
        margin: how much worse still counts as no worse.
        alarms_per_quarter: false alarms of all monitors together that are bearable.
        monitors: how many streams are watched beside each other.
    """
    days, problem = _outcomes(evidence, margin)
    if not (isfinite(alarms_per_quarter) and alarms_per_quarter > 0):
        problem = f"{alarms_per_quarter} is no number of alarms a quarter"
    if problem:
        return Detector(value=0.0, threshold=0.0, days=0, crossed=None, problem=problem)
    threshold = _QUARTER * max(monitors, 1) / alarms_per_quarter
    value, crossed = 0.0, None
    logs: list[float | None] = [None] * len(_BETS)  # None: R is still 0
    for day in days:
        logs = [_one_more(r) + log(1 + bet * day.better) for r, bet in zip(logs, _BETS, strict=True)]
        value = _mean_exp([r for r in logs if r is not None])
        crossed = crossed or (day.day if value >= threshold else None)
    return Detector(value=value, threshold=threshold, days=len(days), crossed=crossed)


def e_bh(e_values: Mapping[str, float], false_share: float) -> frozenset[str]:
    """Return whom e-BH proves, so that on average at most ``false_share`` of them are wrong, however they depend on each other.

    Of K members the k with the largest E are proved, for the largest k whose k-th largest E is at least K / (k · share)
    (Wang & Ramdas, arXiv 2009.02824). An E that is no finite number proves nothing, and its member still counts.
    """
    if not 0 < false_share < 1:
        return frozenset()
    usable = {name: e if isfinite(e) else 0.0 for name, e in e_values.items()}
    ranked = sorted(usable, key=lambda name: -usable[name])
    enough = [k for k, name in enumerate(ranked, start=1) if usable[name] * k * false_share >= len(ranked)]
    return frozenset(ranked[: max(enough, default=0)])


class _Outcome(NamedTuple):
    """What one day says for either side: clipped to ±2, on the scale of the days before it."""

    day: str
    better: float
    worse: float


def _outcomes(evidence: Sequence[Evidence], margin: float) -> tuple[list[_Outcome], str | None]:
    """Return each day's outcome, in order, or what is wrong with the evidence."""
    days_by = {e.day: e for e in evidence}
    days = sorted(days_by.values(), key=lambda e: e.day)
    if not days:
        return [], None
    if not all(isfinite(e.difference) and isfinite(e.scale) for e in days) or not isfinite(margin):
        return [], "a daily difference is not a finite number"
    if any((e.difference, e.scale) != (days_by[e.day].difference, days_by[e.day].scale) for e in evidence):
        return [], "a day is told in two ways"
    prior = max(days[0].scale, _LEAST)
    total, weight = _PRIOR_DAYS * prior * prior, _PRIOR_DAYS
    found = []
    for e in days:
        v = e.difference + margin
        scale = sqrt(total / weight) or _LEAST  # years of days that are all equal wear it down to nothing
        found.append(_Outcome(e.day, _clipped(v / scale), -_clipped(v / scale)))  # worse: by more than the margin
        total, weight = _DECAY * total + v * v, _DECAY * weight + 1
        if not isfinite(total):
            return [], "the daily differences are too large to compare"
    return found, None


def _clipped(x: float) -> float:
    return min(max(x, -_CLIP), _CLIP)


def _autocorrelation(outcomes: Sequence[float]) -> float:
    """Return the lag-1 autocorrelation; 0 where there is none to measure."""
    if not outcomes:
        return 0.0
    mean = fmean(outcomes)
    centred = [x - mean for x in outcomes]
    total = sum(x * x for x in centred)
    return sum(a * b for a, b in pairwise(centred)) / total if total > 0 else 0.0


def _one_more(r: float | None) -> float:
    """Return log(R + 1) from log(R)."""
    if r is None:
        return 0.0
    return max(r, 0.0) + log1p(exp(-abs(r)))


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


def robust_spread(values: Sequence[float]) -> float:
    """Return the standard deviation of a normal distribution as spread out as the middle half of ``values``; 0 of none."""
    if not len(values):
        return 0.0
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)
