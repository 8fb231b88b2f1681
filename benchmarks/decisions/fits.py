"""Every fit that the studies need, made once by Ratchet's trainer and kept in the cache as predictions.

A night of number ``c`` may see the days up to ``c``; its windows are those of the demo's pipeline, cut to what a snapshot
holds. What is kept of a fit are its probabilities for every row from the first day of its hold-out on.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.decisions import flights

from ratchet.domain.records import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pyarrow as pa
    from benchmarks.decisions.flights import Year

WEATHER = (
    *("temp", "dewp", "humid", "wind_speed", "wind_gust"),
    *("precip", "precip_6h", "visib", "visib_6h", "pressure"),
)


@dataclass(frozen=True)
class Recipe:
    """What is learnt how, as far as it differs from the demo's pipeline."""

    name: str = "base"
    days: int | None = None  # length of the whole window
    without: tuple[str, ...] = ()  # features


BASE = Recipe()
BLIND = Recipe("blind", without=WEATHER)
HISTORY = Recipe("history", days=365)  # everything since New Year


@dataclass(frozen=True)
class Job:
    """One fit."""

    recipe: Recipe
    cutoff: int
    seed: int
    since: int = 0  # the first day that the snapshot holds
    horizon: int = 400  # how many days after the cutoff are predicted


class Fits:
    """The kept predictions of a year."""

    def __init__(self, year: Year, cache: Path) -> None:
        spec = year.pipeline.spec
        key = digest(
            [year.pipeline.recipe, spec.window.model_dump(mode="json"), spec.training.model_dump(mode="json")]
        )[:12]
        self.key = f"{year.year}-{key}"
        self._year = year
        self._folder = cache / f"fits-{self.key}"
        self._folder.mkdir(parents=True, exist_ok=True)

    def _file(self, job: Job) -> Path:
        what = {k: v for k, v in asdict(job).items() if k != "recipe"} | asdict(job.recipe)
        return self._folder / f"{job.recipe.name}-{job.cutoff:03d}-{digest(what)[:10]}.npy"

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs that are still to be done."""
        there = {path.name for path in self._folder.iterdir()}
        return [job for job in jobs if self._file(job).name not in there]

    def make(self, jobs: Sequence[Job], cache: Path, workers: int) -> None:
        """Do what is missing, in order."""
        todo = self.missing(jobs)
        began = time.monotonic()
        with ProcessPoolExecutor(workers, initializer=_begin, initargs=(self._year.year, cache)) as pool:
            for done, job in enumerate(pool.map(_fit, todo), 1):
                if done % 25 == 0 or done == len(todo):
                    rate = (time.monotonic() - began) / done
                    print(f"{done} of {len(todo)} fits ({job.recipe.name}), {rate:.2f} s each", flush=True)

    def predictions(self, job: Job) -> tuple[int, np.ndarray]:
        """Return the first predicted day, and a probability for each row from there on."""
        return _span(self._year, job)[0], np.load(self._file(job))


def _span(year: Year, job: Job) -> tuple[int, int]:
    """Return the days that are predicted."""
    holdout = year.pipeline.spec.window.holdout_days
    return job.cutoff - holdout + 1, min(job.cutoff + job.horizon, year.days - 1)


_worker: tuple[Year, Fits] | None = None


def _begin(year: int, cache: Path) -> None:
    global _worker  # noqa: PLW0603  one frame for all fits of a process
    os.environ["OMP_NUM_THREADS"] = "1"
    os.nice(15)
    loaded = flights.load(year, cache)
    _worker = loaded, Fits(loaded, cache)


def _fit(job: Job) -> Job:
    from ratchet.adapters.xgb import XgbTrainer
    from ratchet.domain.windows import windows
    from ratchet.ports import TrainingPlan

    assert _worker
    year, fits = _worker
    spec = year.pipeline.spec
    training, window = spec.training, spec.window
    days = windows(
        year.day(job.cutoff),
        days=job.recipe.days or window.days,
        holdout_days=window.holdout_days,
        stop_days=window.stop_days,
        label_delay_days=window.label_delay_days,
    )
    plan = TrainingPlan(
        task=spec.target.task,
        params=training.params,
        rounds=training.rounds,
        early_stopping_rounds=training.early_stopping_rounds,
        seed=job.seed,
        threads=1,
        device=training.device,
    )
    first = max((days.whole.first - year.first).days, job.since)
    seen = _without(year.rows(first, job.cutoff), job.recipe)
    trainer = XgbTrainer()
    model = trainer.fit(year.frame.model_copy(update={"table": seen}), days, plan, year.query).files
    rows = _without(year.rows(*_span(year, job)), job.recipe)
    path = fits._file(job)  # noqa: SLF001  the same class, in another process
    aside = path.with_name(f".{path.stem}-{os.getpid()}.npy")
    np.save(aside, trainer.predict(model, rows).astype(np.float32))
    aside.replace(path)
    return job


def _without(table: pa.Table, recipe: Recipe) -> pa.Table:
    return table.drop_columns(list(recipe.without)) if recipe.without else table


FROZEN = 58  # the night of 28 February: everything from January and February
FIRST = 89  # the first night with a whole window behind it
WALK = 28  # days of a backfilled walk
WALKS = (FIRST, 130)  # nights on which a walk is made; what their snapshots hold cuts its windows
SAME = (FIRST, 130, 170, 210, 250)  # nights whose data are fitted again and again
SAME_SEEDS = 20
SEEDS = (0, 1)


def refreshes(year: Year, recipe: Recipe = BASE, seed: int = 0) -> list[Job]:
    """One recipe, fitted anew every night, or every week where it is only compared with."""
    last = year.days - 2
    nights = {
        "base": range(FROZEN, last + 1),
        "history": range(FROZEN, last + 1, 7),
        "blind": range(FIRST, last + 1 - 91, 7),
    }[recipe.name]
    near = seed > 0 or recipe == BLIND
    return [Job(recipe, c, seed, horizon=100 if near and c != FROZEN else 400) for c in nights]


def walk(year: Year, night: int, seed: int) -> list[Job]:
    """What a night's backfilled walk fits: the model for each of the last days, on what the night's snapshot holds."""
    since = night - year.pipeline.spec.window.days + 1
    if since <= 0:  # it holds everything, so these are the nights themselves
        return [job for job in refreshes(year, BASE, seed) if night - WALK <= job.cutoff < night]
    return [Job(BASE, c, seed, since=since, horizon=1) for c in range(night - WALK, night)]


def same_data(night: int) -> list[Job]:
    """One night's data, fitted again and again with other seeds."""
    return [Job(BASE, night, 100 + seed, horizon=100) for seed in range(SAME_SEEDS)]


def all_jobs(year: Year) -> list[Job]:
    """Return every fit, what is needed most first."""
    return [
        *(job for seed in SEEDS for job in refreshes(year, BASE, seed)),
        *refreshes(year, HISTORY),
        *(job for night in SAME for job in same_data(night)),
        *refreshes(year, BLIND),
        *(job for night in WALKS for seed in SEEDS for job in walk(year, night, seed)),
    ]
