"""What every policy costs over a year: the loss of whoever serves, day by day, while the pipeline is well and while it is broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from benchmarks.decisions.fits import BASE, FROZEN, WALK, Recipe
from benchmarks.decisions.null import HOLDOUT
from benchmarks.decisions.rules import (
    Judged,
    Reign,
    Sight,
    evidence,
    evidence_gate,
    interval,
    naive,
    piece,
    shadow,
    usual,
)
from benchmarks.decisions.world import BROKEN

from ratchet.domain.case import MetricValue
from ratchet.domain.evidence import candidate
from ratchet.domain.gates import BoundGate
from ratchet.domain.statistics import detector, e_process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.decisions.rules import Rule
    from benchmarks.decisions.world import Floats, World

    from ratchet.domain.evidence import Shadow
    from ratchet.domain.statistics import Evidence

RECENT = 7  # challengers that a proof may promote
MARGIN = 0.002  # a hundredth of the usual score
ALARMS = 0.1  # a quarter, of a streak of refreshes


@dataclass(frozen=True)
class Past:
    """What happened, whoever served: the losses of each night's model, as healthy or broken as it was made."""

    world: World
    loss: Floats  # (nights, days)
    holdout: Floats
    auc: Floats

    def difference(self, ours: int, theirs: int, day: int) -> Evidence:
        """Return a day's evidence of one night's model against another's."""
        return self.difference_scaled(ours, theirs, day, usual(self.holdout[ours]))

    def difference_scaled(self, ours: int, theirs: int, day: int, scale: float) -> Evidence:
        """Likewise, on a given scale."""
        world = self.world
        return piece(world.names[day], int(world.rows[day]), self.loss[ours, day] - self.loss[theirs, day], scale)


def past(world: World, broken_nights: range = range(0), recipe: Recipe = BASE) -> Past:
    """Return the year, with some nights' models broken."""
    well, ill = world.side(recipe), world.side(recipe, log_odds=BROKEN)
    sick = np.isin(np.arange(world.days), np.array(broken_nights))
    return Past(
        world=world,
        loss=np.where(sick[:, None], ill.loss, well.loss),
        holdout=np.where(sick, ill.holdout, well.holdout),
        auc=world.auc(recipe),
    )


class Policy(Protocol):
    """Decides who serves."""

    champion: int

    def night(self, past: Past, c: int) -> None:
        """Decide with what is known on the night of number ``c``."""


@dataclass
class Never:
    """The first champion serves for ever."""

    champion: int

    def night(self, past: Past, c: int) -> None:
        """See ``Policy.night``."""


@dataclass
class Always:
    """Tonight's challenger serves, whatever it is."""

    champion: int

    def night(self, past: Past, c: int) -> None:
        """See ``Policy.night``."""
        del past
        self.champion = c


def sight(past: Past, champion: int, c: int, seen: Sequence[Evidence] = ()) -> Sight:
    """Return what a night sees."""
    days, world = c + HOLDOUT, past.world
    rows = int(world.rows[days].sum())
    return Sight(
        names=world.names[c - 6 : c + 1],
        rows=world.rows[days],
        champion=past.loss[champion, days],
        challenger=past.loss[c, days],
        squares=np.full(7, np.nan),
        evidence=seen,
        metrics={
            "auc": MetricValue(value=float(past.auc[c]), rows=rows),
            "brier": MetricValue(value=float(past.holdout[c]), rows=rows),
        },
        shadows=tuple(_shadow(past, v, c) for v in range(c, max(champion, c - RECENT), -1)) if seen else (),
    )


def _shadow(past: Past, v: int, c: int) -> Shadow:
    days = range(v + 1, c + 1)
    return shadow(v, past.world.year.day(v), {past.world.names[t]: float(past.loss[v, t]) for t in days})


@dataclass
class ByHoldout:
    """Tonight's challenger serves when a rule says so of the hold-out."""

    champion: int
    rule: Rule

    def night(self, past: Past, c: int) -> None:
        """See ``Policy.night``."""
        if self.rule(sight(past, self.champion, c)):
            self.champion = c


def _proved(seen: Sight, rule: Judged) -> int | None:
    """Return whom the evidence promotes tonight, if it does."""
    if not rule(seen):
        return None
    who, _ = candidate(evidence_gate(), seen.trial)
    return who.version if who else None


@dataclass
class Proved:
    """Every refresh is proved by its own reign's evidence (lane ``prove``), and watched against its predecessor.

    Attributes:
        watch: the E at which it is rolled back; None: it is not watched.
    """

    champion: int
    rule: Judged = field(default_factory=evidence)
    watch: float | None = 10.0
    predecessor: int | None = None
    seen: Reign = field(default_factory=Reign)
    against: list[Evidence] = field(default_factory=list)
    since: int = -1
    turns: list[tuple[int, str, int]] = field(default_factory=list)

    def night(self, past: Past, c: int) -> None:
        """See ``Policy.night``."""
        if c - 1 > self.champion:
            scale = self.seen[0].scale if self.seen else usual(past.holdout[self.champion])
            self.seen.append(past.difference_scaled(self.champion, c - 1, c, scale))
        if self.predecessor is not None and self.watch is not None:
            scale = self.against[0].scale if self.against else usual(past.holdout[self.champion])
            self.against.append(past.difference_scaled(self.champion, self.predecessor, c, scale))
            state = e_process(self.against, margin=0.0)
            if state.days >= 5 and state.better >= self.watch:
                self._turn(c, "rollback", self.predecessor, None)
                return
        who = _proved(sight(past, self.champion, c, self.seen), self.rule)
        if who is not None:
            self._turn(c, "promote", who, self.champion)

    def _turn(self, c: int, action: str, champion: int, predecessor: int | None) -> None:
        self.turns.append((c, action, champion))
        self.champion, self.predecessor, self.seen, self.against = champion, predecessor, Reign(), []


@dataclass
class TwoLanes:
    """Refreshing is proved once, then every refresh that its circuit breakers let through serves, watched against the proved one.

    Attributes:
        breakers: bounds that a refresh must keep.
        backfill: days before the first night that are walked to prove that refreshing beats holding.
        renewed: the champion that later ones are watched against is that of so many to twice as many nights ago; None: the proved one.
        alarms: a quarter that are bearable; None: it is not watched.
    """

    champion: int
    breakers: Judged | None = None
    backfill: int = 0
    renewed: int | None = 28
    alarms: float | None = ALARMS
    rule: Judged = field(default_factory=evidence)
    proved: int | None = None
    seen: Reign = field(default_factory=Reign)
    served: list[tuple[int, int]] = field(default_factory=list)  # since the standby began: day, who served it
    turns: list[tuple[int, str, int]] = field(default_factory=list)

    def night(self, past: Past, c: int) -> None:
        """See ``Policy.night``."""
        if self.proved is None:
            self._prove(past, c)
            return
        if self.champion != self.proved:
            self.served.append((c, self.champion))
        if self.alarms and detector(self._streak(past), margin=0.0, alarms_per_quarter=self.alarms).crossed:
            self.turns.append((c, "rollback", self.proved))
            self.champion, self.proved, self.seen, self.served = self.proved, None, Reign(), []
            return
        if self.breakers is None or self.breakers(sight(past, self.champion, c)):
            self.champion = c
        if self.renewed and len(self.served) >= 2 * self.renewed:
            self.proved, self.served = self.served[self.renewed - 1][1], self.served[self.renewed :]

    def _streak(self, past: Past) -> list[Evidence]:
        assert self.proved is not None
        scale = usual(past.holdout[self.proved])
        return [past.difference_scaled(champion, self.proved, day, scale) for day, champion in self.served]

    def _prove(self, past: Past, c: int) -> None:
        if self.backfill:
            self._walk(past)
        if c - 1 > self.champion:
            scale = self.seen[0].scale if self.seen else usual(past.holdout[self.champion])
            self.seen.append(past.difference_scaled(self.champion, c - 1, c, scale))
        who = _proved(sight(past, self.champion, c, self.seen), self.rule)
        if who is not None:
            self.turns.append((c, "certify", who))
            self.champion = self.proved = who
            self.seen, self.served = Reign(), []

    def _walk(self, past: Past) -> None:
        """Refit the days before the first champion as they would have been fitted, once held and once refreshed."""
        first, self.backfill = self.champion - self.backfill + 1, 0
        hold = max(first - 1, FROZEN)
        scale = usual(past.holdout[hold])
        self.seen = Reign(past.difference_scaled(hold, t - 1, t, scale) for t in range(hold + 2, self.champion + 1))


def policies(world: World, first: int) -> dict[str, Callable[[], Policy]]:
    """Return every policy, as it begins with its first champion."""
    bounds = tuple(gate for gate in world.year.pipeline.spec.gates if isinstance(gate, BoundGate))
    breakers = Judged((*bounds, *interval(MARGIN).gates))
    return {
        "always refresh": lambda: Always(first),
        "never refresh": lambda: Never(first),
        "naive `>=`, 7-day hold-out": lambda: ByHoldout(first, naive),
        "interval over days, margin 0": lambda: ByHoldout(first, interval(0.0)),
        f"interval over days, margin {MARGIN:g}": lambda: ByHoldout(first, interval(MARGIN)),
        "e-process, every refresh proved": lambda: Proved(first),
        "**two lanes**": lambda: TwoLanes(first, backfill=WALK),
        "**two lanes, the demo's bounds and the interval as breakers**": lambda: TwoLanes(
            first, breakers=breakers, backfill=WALK
        ),
        "two lanes, nothing backfilled": lambda: TwoLanes(first),
        "two lanes, not watched": lambda: TwoLanes(first, backfill=WALK, alarms=None),
        "two lanes, watched against the champion that was proved, however old": lambda: TwoLanes(
            first, backfill=WALK, renewed=None
        ),
    }


def served(policy: Policy, past: Past, first: int, nights: int = 365) -> list[int]:
    """Play nights to the end of the year, or so many, and return who serves on each day after the first night."""
    serving = [policy.champion]
    for c in range(first + 1, min(first + nights, past.world.days - 1)):
        policy.night(past, c)
        serving.append(policy.champion)
    return serving


def losses(serving: Sequence[int], past: Past, first: int) -> Floats:
    """Return the loss of whoever serves, by day."""
    days = first + 1 + np.arange(len(serving))
    return past.loss[np.array(serving), days]


def floor(past: Past, first: int) -> Floats:
    """Return hindsight's best: each day the best of all models made since the first champion; nobody could know it."""
    return np.array([np.nanmin(past.loss[first:day, day]) for day in range(first + 1, past.world.days)])
