"""What the fits were worth: mean losses by model and day, and what the rules ask about their rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.decisions import fits
from benchmarks.decisions.fits import BASE, FIRST, Fits, Job

from ratchet.domain.losses import row_losses

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.decisions.flights import Year

    from ratchet.domain.gates import Loss

    Floats = np.ndarray[Any, np.dtype[np.float64]]

LOSS: Loss = "brier"  # the demo's
QUARTER = 91  # nights
BROKEN = 0.7  # what a broken pipeline adds to the log odds


def broken(p: Floats, log_odds: float = BROKEN) -> Floats:
    """Return the probabilities of a broken pipeline."""
    odds = p / (1 - p) * np.exp(log_odds)
    return odds / (1 + odds)


@dataclass(frozen=True)
class Side:
    """A recipe that is refreshed every night: mean loss of the model of night ``c`` on day ``t``, NaN where it is not known."""

    loss: Floats  # (nights, days)
    holdout: Floats  # of each night's model, over the rows of its hold-out


class World:
    """One year's fits.

    Args:
        year: the flights.
        kept: the fits.
        cache: where to keep what is derived from them.
    """

    def __init__(self, year: Year, kept: Fits, cache: Path) -> None:
        self.year = year
        self.days = year.days
        self.rows = np.diff(year.starts)
        self.names = [str(year.day(t)) for t in range(year.days)]
        self._fits, self._cache = kept, cache
        self._y = year.frame.table["target"].to_numpy(zero_copy_only=False).astype(np.float64)

    def done(self, jobs: Sequence[Job]) -> bool:
        """Say whether fits are there."""
        return not self._fits.missing(jobs)

    def _predictions(self, job: Job) -> tuple[int, Floats, Floats]:
        """Return the first day, the probabilities and the labels of its rows."""
        first, p = self._fits.predictions(job)
        start = self.year.starts[first]
        return first, p.astype(np.float64), self._y[start : start + len(p)]

    def holdout(self, job: Job, night: int) -> tuple[Floats, Floats, list[str], list[str]]:
        """Return probabilities, labels, days and origins of a night's hold-out rows."""
        first, p, y = self._predictions(job)
        start, end = self.year.starts[night - 6], self.year.starts[night + 1]
        rows, here = self.year.frame.table.slice(start, end - start), slice(start - self.year.starts[first], None)
        n = end - start
        return p[here][:n], y[here][:n], [str(day) for day in rows["dt"].to_pylist()], rows["origin"].to_pylist()

    def row_losses(self, job: Job, log_odds: float = 0.0) -> tuple[int, Floats]:
        """Return the first day, and the loss of each row from there on."""
        first, p, y = self._predictions(job)
        return first, row_losses(LOSS, y, broken(p, log_odds) if log_odds else p)

    def day_losses(self, job: Job, log_odds: float = 0.0) -> Floats:
        """Return the mean loss by day, NaN where nothing was predicted."""
        first, losses = self.row_losses(job, log_odds)
        return self._by_day(first, losses)

    def _by_day(self, first: int, values: Floats) -> Floats:
        start = self.year.starts[first]
        cuts = self.year.starts[first:] - start
        days = int(np.searchsorted(cuts, len(values)))
        found = np.full(self.days, np.nan)
        found[first : first + days] = np.add.reduceat(values, cuts[:days]) / self.rows[first : first + days]
        return found

    def _kept(self, name: str, jobs: Sequence[Job], make: Any) -> Any:
        """Return arrays from the cache, or make and keep them once all fits are there."""
        path = self._cache / f"{name}-{self._fits.key}.npz"
        if path.is_file():
            return dict(np.load(path))
        found = make()
        if self.done(jobs):
            np.savez(path, **found)
        return found

    def side(self, recipe: fits.Recipe = BASE, seed: int = 0, log_odds: float = 0.0) -> Side:
        """Return a recipe's losses; between two fits the older one goes on."""
        jobs = fits.refreshes(self.year, recipe, seed)

        def make() -> dict[str, Floats]:
            loss = np.full((self.days, self.days), np.nan)
            for job, until in zip(jobs, [*(job.cutoff for job in jobs[1:]), self.days], strict=True):
                loss[job.cutoff : until] = self.day_losses(job, log_odds)
            return {"loss": loss}

        loss = self._kept(f"side-{recipe.name}-{seed}-{log_odds:g}", jobs, make)["loss"]
        return Side(loss=loss, holdout=np.array([self._holdout(loss, c) for c in range(self.days)]))

    def _holdout(self, loss: Floats, c: int) -> float:
        span = slice(max(c - 6, 0), c + 1)
        return float(np.average(loss[c, span], weights=self.rows[span])) if np.isfinite(loss[c, span]).all() else np.nan

    @cached_property
    def squares(self) -> Floats:
        """Return, for champion ``k`` and challenger ``c``, the mean square of their rows' differences on c's hold-out days."""
        jobs = fits.refreshes(self.year)

        def make() -> dict[str, Floats]:
            rows = {job.cutoff: self.row_losses(job) for job in jobs}
            squares = np.full((self.days, self.days, 7), np.nan)
            for c, mine in rows.items():
                for k in range(max(FIRST, c - QUARTER), c):
                    squares[k, c] = self._squares(rows[k], mine, c)
            return {"squares": squares}

        return self._kept("squares", jobs, make)["squares"]

    @cached_property
    def squares_of_seeds(self) -> Floats:
        """Return the same for two seeds of one night's recipe: by seed, seed, night and day."""
        jobs = [fits.refreshes(self.year, BASE, seed) for seed in fits.SEEDS]

        def make() -> dict[str, Floats]:
            squares = np.full((len(jobs), len(jobs), self.days, 7), np.nan)
            for night in zip(*jobs, strict=True):
                rows = [self.row_losses(job) for job in night]
                for i, ours in enumerate(rows):
                    for j, theirs in enumerate(rows):
                        squares[i, j, night[0].cutoff] = self._squares(ours, theirs, night[0].cutoff)
            return {"squares": squares}

        return self._kept("squares-of-seeds", [job for side in jobs for job in side], make)["squares"]

    def _squares(self, ours: tuple[int, Floats], theirs: tuple[int, Floats], c: int) -> Floats:
        """Return the mean square of row differences by day of a hold-out; both are losses by row from some day on."""
        cuts = self.year.starts[c - 6 : c + 2]
        first, last = cuts[0], cuts[-1]
        sides = [loss[first - self.year.starts[day] : last - self.year.starts[day]] for day, loss in (ours, theirs)]
        return np.add.reduceat((sides[0] - sides[1]) ** 2, cuts[:-1] - first) / np.diff(cuts)

    def same_data(self, night: int) -> tuple[Floats, Floats]:
        """Return what fits of one night's data by other seeds lose by day, and mean squares of row differences by pair."""
        jobs = fits.same_data(night)

        def make() -> dict[str, Floats]:
            rows = [self.row_losses(job) for job in jobs]
            last = night + 98
            start, cuts = self.year.starts[night - 6], self.year.starts[night - 6 : last + 1]
            squares = np.full((len(jobs), len(jobs), self.days), np.nan)
            for i, (_, ours) in enumerate(rows):
                for j, (_, theirs) in enumerate(rows):
                    square = (ours[: cuts[-1] - start] - theirs[: cuts[-1] - start]) ** 2
                    squares[i, j, night - 6 : last] = np.add.reduceat(square, cuts[:-1] - start) / np.diff(cuts)
            return {"loss": np.array([self.day_losses(job) for job in jobs]), "squares": squares}

        found = self._kept(f"same-data-{night}", jobs, make)
        return found["loss"], found["squares"]

    def walked(self, night: int) -> Floats:
        """Return what each day's models of a backfilled walk lose, by seed and day."""
        jobs = [fits.walk(self.year, night, seed) for seed in fits.SEEDS]

        def make() -> dict[str, Floats]:
            loss = np.full((len(jobs), self.days), np.nan)
            for seed, walk in enumerate(jobs):
                for job in walk:
                    loss[seed, job.cutoff + 1] = self.day_losses(job)[job.cutoff + 1]
            return {"loss": loss}

        return self._kept(f"walked-{night}", [job for walk in jobs for job in walk], make)["loss"]

    def auc(self, recipe: fits.Recipe = BASE) -> Floats:
        """Return the AUC of each night's model on its hold-out."""
        jobs = fits.refreshes(self.year, recipe)

        def make() -> dict[str, Floats]:
            from sklearn.metrics import roc_auc_score

            auc = np.full(self.days, np.nan)
            for job, until in zip(jobs, [*(job.cutoff for job in jobs[1:]), self.days], strict=True):
                first, p, y = self._predictions(job)
                n = self.year.starts[job.cutoff + 1] - self.year.starts[first]
                auc[job.cutoff : until] = roc_auc_score(y[:n], p[:n])
            return {"auc": auc}

        return self._kept(f"auc-{recipe.name}", jobs, make)["auc"]
