"""What is real, and what is broken: how soon the evidence tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.decisions import monte
from benchmarks.decisions.rules import ALPHA, nights_to_wait, piece, usual
from benchmarks.decisions.world import QUARTER

from ratchet.domain.statistics import detector, e_bh, e_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.decisions.rules import Rule
    from benchmarks.decisions.world import Floats, World

    from ratchet.domain.statistics import Evidence

LEAST_DAYS = 5
_DAY_ONE = date(2013, 1, 1)  # of a stream; any would do
LATEST = 363 - QUARTER  # the last night that has a quarter before it


@dataclass(frozen=True)
class Stream:
    """Daily differences, ours minus theirs: above zero where theirs is better."""

    differences: Floats
    scale: float

    def evidence(self) -> list[Evidence]:
        """Return them as evidence, day after day."""
        days = np.datetime64(_DAY_ONE) + np.arange(len(self.differences))
        return [
            piece(str(day), 1, difference, self.scale)
            for day, difference in zip(days, self.differences.tolist(), strict=True)
        ]


def held(loss: Floats, theirs: Floats, champion: int, start: int, holdout: Floats) -> Stream:
    """Return a quarter of a champion that is held, against models that are refreshed every night."""
    days = np.arange(start + 2, start + QUARTER + 1)
    return Stream(loss[champion, days] - theirs[days - 1, days], usual(float(holdout[champion])))


def both(ours: Floats, theirs: Floats, start: int, holdout: Floats) -> Stream:
    """Return a quarter of two recipes that are both refreshed every night."""
    days = np.arange(start + 1, start + QUARTER + 1)
    return Stream(ours[days - 1, days] - theirs[days - 1, days], usual(float(holdout[start])))


def resampled(stream: Stream, random: np.random.Generator) -> Stream:
    """Draw the quarter's weeks again, with replacement."""
    return Stream(monte.blocks(random, stream.differences, len(stream.differences)), stream.scale)


def proved_on(stream: Stream, needed: float | None = None) -> int | None:
    """Return the night on which the gate passes; with ``needed`` the first on which E reaches that instead."""
    told, n = stream.evidence(), LEAST_DAYS
    while n <= len(told):
        state = e_process(told[:n], margin=0.0)
        if state.better >= (needed or state.needed(ALPHA)):
            return n
        n += nights_to_wait(state.better, needed or 1 / ALPHA)
    return None


def alarm_on(stream: Stream, alarms: float) -> int | None:
    """Return the day on which the watch over a streak raises its first alarm."""
    crossed = detector(stream.evidence(), margin=0.0, alarms_per_quarter=alarms).crossed
    return None if crossed is None else (date.fromisoformat(crossed) - _DAY_ONE).days + 1


def passes(rule: Rule, world: World, loss: Floats, theirs: Floats, champion: int, start: int) -> bool:
    """Say whether a rule that looks at the hold-out promotes any of a quarter's challengers."""
    from benchmarks.decisions.null import HOLDOUT
    from benchmarks.decisions.rules import Sight

    for c in range(start + 1, start + QUARTER + 1):
        days = c + HOLDOUT
        seen = Sight(
            names=world.names[c - 6 : c + 1],
            rows=world.rows[days],
            champion=loss[champion, days],
            challenger=theirs[c, days],
            squares=np.full(7, np.nan),
        )
        if rule(seen):
            return True
    return False


def autocorrelation(differences: Floats) -> float:
    """Return the lag-1 autocorrelation as they are, without clipping."""
    centred = differences - differences.mean()
    return float((centred[1:] * centred[:-1]).sum() / (centred * centred).sum())


def share_proved(streams: Sequence[Stream], times: int, workers: int) -> tuple[monte.Figure, float]:
    """Return the share of resampled quarters that are proved by night 91, and the median night (inf: most are not)."""

    def once(random: np.random.Generator) -> float:
        stream = streams[int(random.integers(len(streams)))]
        return proved_on(resampled(stream, random)) or np.inf

    nights = np.array(monte.replicate(once, times, workers))
    return monte.figure(np.isfinite(nights)), float(np.median(nights))


@dataclass(frozen=True)
class Fleet:
    """What a fleet's quarter came to."""

    wrong: int
    kept: int


def fleet_quarter(
    random: np.random.Generator, noise: Floats, gains: Floats, nights: int = QUARTER, false_share: float | None = None
) -> Fleet:
    """Play a fleet's quarter: each pipeline proves by itself, or all by e-BH at ``false_share`` every night.

    Who is promoted begins a new reign, in which nobody is better.

    Args:
        random: chance.
        noise: real daily differences with mean 0 and standard deviation 1, of which weeks are drawn.
        gains: by pipeline, the signal-to-noise of what is proved; 0: it is no better.
        nights: how many.
        false_share: of e-BH.
    """
    streams = [Stream(monte.blocks(random, noise, nights) + gain, 0.5).evidence() for gain in gains]
    still = np.array(gains, dtype=float)
    again = [monte.blocks(random, noise, nights) for _ in gains]
    begin, asleep = [0] * len(gains), [LEAST_DAYS] * len(gains)
    states = {str(i): 1.0 for i in range(len(gains))}
    least = (
        1 / ALPHA if false_share is None else 1 / false_share
    )  # with less nobody is promoted, whatever the others have
    wrong = kept = 0
    for n in range(1, nights + 1):
        for i, stream in enumerate(streams):
            if n >= asleep[i]:
                state = e_process(stream[begin[i] : n], margin=0.0)
                states[str(i)] = state.better / (2 if state.persistent else 1)
                asleep[i] = n + nights_to_wait(state.better, least)
        if false_share is None:
            promoted = {i for i, e in states.items() if e >= 1 / ALPHA}
        else:
            promoted = set(e_bh(states, false_share))
        for i in map(int, promoted):
            wrong, kept = wrong + (still[i] <= 0), kept + (still[i] > 0)
            streams[i] = Stream(again[i], 0.5).evidence()
            still[i], begin[i], asleep[i], states[str(i)] = 0.0, n, n + LEAST_DAYS, 1.0
    return Fleet(wrong, kept)
