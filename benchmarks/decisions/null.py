"""Quarters in which no challenger is better, and every promotion is wrong.

Three ways to make one from real nights, and a fourth for evidence that is made afterwards:

- *swapped days*: on each day a fair coin decides whether champion and challenger change places, for all of that day's rows. Real
  nights, real sizes, real weather, and neither is better. Each reign tosses coins of its own, which all its nights share.
- *swapped weeks*: one coin for seven days, so that luck lasts.
- *A/A*: nothing is swapped; both models come of the same recipe and differ by the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from benchmarks.decisions.rules import Reign, Sight, piece, usual
from benchmarks.decisions.world import QUARTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.decisions.rules import Rule
    from benchmarks.decisions.world import Floats, Side, World


HOLDOUT = np.arange(-6, 1)


class Stage(Protocol):
    """A quarter as a rule meets it."""

    wrong: bool  # whether a promotion now would be wrong

    def look(self, c: int) -> Sight:
        """Return what is seen on the night of number ``c``."""

    def promote(self, c: int) -> None:
        """Let that night's challenger reign."""


def quarter(stage: Stage, rule: Rule, start: int, nights: int = QUARTER) -> int:
    """Count a quarter's wrong promotions."""
    wrong = 0
    for c in range(start + 1, start + nights + 1):
        if rule(stage.look(c)):
            wrong += stage.wrong
            stage.promote(c)
    return wrong


@dataclass
class Swapped:
    """A champion that stays, challengers that are refreshed, and coins that make neither better.

    Attributes:
        lasting: for how many days a coin holds.
    """

    world: World
    side: Side
    lasting: int
    random: np.random.Generator
    champion: int
    wrong: bool = True
    coins: Floats = field(init=False)
    seen: Reign = field(init=False)

    def __post_init__(self) -> None:
        """Begin the first reign."""
        self.promote(self.champion)

    def promote(self, c: int) -> None:
        """See ``Stage.promote``."""
        self.champion, self.seen = c, Reign()
        phase = int(self.random.integers(self.lasting))
        tossed = self.random.choice([-1.0, 1.0], self.world.days // self.lasting + 2)
        self.coins = np.repeat(tossed, self.lasting)[phase : phase + self.world.days]

    def look(self, c: int) -> Sight:
        """See ``Stage.look``."""
        k, loss, days = self.champion, self.side.loss, c + HOLDOUT
        if c - 1 > k:
            scale = usual(self.side.holdout[k])
            difference = self.coins[c] * (loss[k, c] - loss[c - 1, c])
            self.seen.append(piece(self.world.names[c], int(self.world.rows[c]), difference, scale))
        swapped = self.coins[days] < 0
        ours, theirs = loss[k, days], loss[c, days]
        return Sight(
            names=self.world.names[c - 6 : c + 1],
            rows=self.world.rows[days],
            champion=np.where(swapped, theirs, ours),
            challenger=np.where(swapped, ours, theirs),
            squares=self.world.squares[k, c],
            evidence=self.seen,
        )


@dataclass
class SameData:
    """A champion, and challengers that learn from the champion's own data with other seeds, one a night.

    Attributes:
        loss: by seed and day.
        scale: of a daily difference, known beforehand.
        squares: mean square of rows' differences, by seed, seed and day.
        unlucky_too: also count promotions over a champion whose seed is so unlucky that others are better on average.
    """

    world: World
    loss: Floats
    scale: float
    squares: Floats
    random: np.random.Generator
    unlucky_too: bool = True
    wrong: bool = field(init=False)
    champion: int = field(init=False)
    tonight: int = field(init=False)
    seen: Reign = field(init=False)

    def __post_init__(self) -> None:
        """Draw the first champion."""
        self.tonight = int(self.random.integers(len(self.loss)))
        self.promote(0)

    def promote(self, c: int) -> None:
        """See ``Stage.promote``."""
        del c
        self.champion, self.seen = self.tonight, Reign()
        others = np.delete(self.loss, self.champion, axis=0)
        no_better = np.nanmean(others) >= np.nanmean(self.loss[self.champion])
        self.wrong = bool(self.unlucky_too or no_better)

    def look(self, c: int) -> Sight:
        """See ``Stage.look``."""
        k, before, days = self.champion, self.tonight, c + HOLDOUT
        if before != k:  # last night's challenger, made before this day
            difference = self.loss[k, c] - self.loss[before, c]
            self.seen.append(piece(self.world.names[c], int(self.world.rows[c]), difference, self.scale))
        self.tonight = (k + 1 + int(self.random.integers(len(self.loss) - 1))) % len(self.loss)
        return Sight(
            names=self.world.names[c - 6 : c + 1],
            rows=self.world.rows[days],
            champion=self.loss[k, days],
            challenger=self.loss[self.tonight, days],
            squares=self.squares[k, self.tonight, days],
            evidence=self.seen,
        )


@dataclass
class BothRefreshed:
    """Two recipes that are one: both refreshed every night, each fit with a seed of its own.

    Attributes:
        sides: the same recipe with other seeds.
        walked: by seed and day, the loss of the model that a backfilled walk made for that day, where there is a walk.
    """

    world: World
    sides: Sequence[Side]
    squares: Floats  # by seed, seed, night and day
    random: np.random.Generator
    walked: Floats | None = None
    wrong: bool = True
    seen: Reign = field(default_factory=Reign)

    def backfill(self, start: int, days: int) -> None:
        """Begin with the evidence of a walk over the days up to ``start``."""
        assert self.walked is not None
        for t in range(start - days + 1, start + 1):
            i, j = self.random.permutation(len(self.sides))[:2]
            self._add(t, self.walked[i, t] - self.walked[j, t], self.sides[0].holdout[start])

    def promote(self, c: int) -> None:
        """See ``Stage.promote``."""
        del c
        self.seen = Reign()

    def look(self, c: int) -> Sight:
        """See ``Stage.look``."""
        i, j = self.random.permutation(len(self.sides))[:2]
        ours, theirs, days = self.sides[i], self.sides[j], c + HOLDOUT
        self._add(c, ours.loss[c - 1, c] - theirs.loss[c - 1, c], ours.holdout[c - 1])
        return Sight(
            names=self.world.names[c - 6 : c + 1],
            rows=self.world.rows[days],
            champion=ours.loss[c, days],
            challenger=theirs.loss[c, days],
            squares=self.squares[i, j, c],
            evidence=self.seen,
        )

    def _add(self, t: int, difference: float, loss: float) -> None:
        scale = self.seen[0].scale if self.seen else usual(loss)
        self.seen.append(piece(self.world.names[t], int(self.world.rows[t]), difference, scale))
