"""Whether fitting again on the hold-out pays: nights of 2013, each model scored on the week after it was made.

``python -m benchmarks.refit`` fits every fourteenth night of the year as ``flight_delay`` does, fits it again on all of its days
(``training.refit``), once with the rounds that early stopping kept and once with as many more as there are more rows, and
scores all three on the seven days after the cutoff. Days of one week are one observation.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.decisions.flights import load

from ratchet.adapters.xgb import XgbTrainer
from ratchet.domain.gates import LOSSES
from ratchet.domain.losses import row_losses
from ratchet.domain.windows import Span
from ratchet.ports import TrainingPlan

if TYPE_CHECKING:
    from benchmarks.decisions.flights import Year

    from ratchet.domain.models import ModelFiles

_FIRST, _AHEAD = 90, 7


def main() -> None:
    """Fit, score and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "ratchet-benchmarks")
    parser.add_argument("--every", type=int, default=14, help="nights from one to the next")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    year = load(2013, args.cache)
    found = [night(year, number) for number in range(_FIRST, year.days - _AHEAD - 1, args.every)]
    print(f"{len(found)} nights; loss of the refitted model minus that of the one that was judged, by week")
    for kind in ("refit", "refit, rounds scaled"):
        for loss in LOSSES["binary"]:
            by_week = np.array([losses[kind][loss] - losses["judged"][loss] for losses in found])
            usual = np.mean([losses["judged"][loss] for losses in found])
            error = by_week.std(ddof=1) / np.sqrt(len(by_week))
            print(
                f"{kind:22}{loss:10}{by_week.mean():+.5f} ± {1.96 * error:.5f} of {usual:.4f}; better in {(by_week < 0).sum()} of {len(by_week)} weeks"
            )


def night(year: Year, number: int) -> dict[str, dict[str, float]]:
    """Return the mean losses of each model over the week after a night."""
    spec, trainer = year.pipeline.spec, XgbTrainer()
    cutoff = year.day(number)
    days = spec.windows(cutoff)
    start = max(number - spec.window.days + 1, 0)
    frame = year.frame.model_copy(update={"table": year.rows(start, number)})
    training = spec.training
    plan = TrainingPlan(
        task="binary",
        params=training.params,
        rounds=training.rounds,
        early_stopping_rounds=training.early_stopping_rounds,
        seed=training.seed,
        threads=2,
        device="cpu",
    )
    fit = trainer.fit(frame, days, plan, year.query)
    rounds, whole = fit.files.schema_.best_iteration + 1, Span(first=days.fit.first, last=days.holdout.last)
    again = trainer.refit(frame, whole, plan, year.query, rounds)
    scaled = trainer.refit(frame, whole, plan, year.query, round(rounds * again.rows / fit.rows))
    ahead = year.rows(number + 1, number + _AHEAD)
    assert ahead["dt"][0].as_py() == cutoff + timedelta(days=1)
    models = {"judged": fit, "refit": again, "refit, rounds scaled": scaled}
    return {name: _losses(trainer, made.files, ahead) for name, made in models.items()}


def _losses(trainer: XgbTrainer, files: ModelFiles, table: Any) -> dict[str, float]:
    y, p, days = trainer.labels(files, table), trainer.predict(files, table), table["dt"].to_numpy()
    return {
        loss: float(np.mean([row_losses(loss, y[days == day], p[days == day]).mean() for day in np.unique(days)]))
        for loss in LOSSES["binary"]
    }


if __name__ == "__main__":
    main()
