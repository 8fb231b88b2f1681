"""Monte Carlo: the same question asked many times, with the error of the answer."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEED = 20130228
_PARTS = 16  # the same draws on any number of processors

_task: Callable[[np.random.Generator], Any] | None = None


@dataclass(frozen=True)
class Figure:
    """A mean, and its standard error."""

    mean: float
    error: float

    def text(self, digits: int) -> str:
        """Write it down."""
        return f"{self.mean:.{digits}f} ± {self.error:.{digits}f}"

    def percent(self) -> str:
        """Write a share down."""
        return f"{100 * self.mean:.1f} ± {100 * self.error:.1f} %"


def figure(values: Sequence[float] | np.ndarray) -> Figure:
    """Return the mean of draws that are independent of each other."""
    draws = np.asarray(values, dtype=float)
    return Figure(float(draws.mean()), float(draws.std(ddof=1) / sqrt(len(draws))) if len(draws) > 1 else 0.0)


def replicate(task: Callable[[np.random.Generator], Any], times: int, workers: int) -> list[Any]:
    """Return what ``task`` gives for so many streams of chance, which do not depend on how many processes work."""
    global _task  # noqa: PLW0603  processes that are forked inherit it, whatever it holds
    _task = task
    sizes = [times // _PARTS + (part < times % _PARTS) for part in range(_PARTS)]
    parts = list(zip(np.random.SeedSequence(SEED).spawn(_PARTS), sizes, strict=True))
    if workers == 1:
        found = [_part(part) for part in parts]
    else:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            found = pool.map(_part, parts, chunksize=1)
    return [value for part in found for value in part]


def _part(part: tuple[np.random.SeedSequence, int]) -> list[Any]:
    assert _task
    seed, size = part
    random = np.random.default_rng(seed)
    return [_task(random) for _ in range(size)]


def blocks(random: np.random.Generator, values: np.ndarray, length: int, block: int = 7) -> np.ndarray:
    """Draw whole weeks with replacement, so that a day keeps its neighbours."""
    count = -(-length // block)
    starts = random.integers(0, len(values) - block + 1, count)
    return np.concatenate([values[s : s + block] for s in starts])[:length]
