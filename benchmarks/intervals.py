"""How often the intervals over days hold the truth, beside what else could have been shown.

``python -m benchmarks.intervals [--worlds 200] [--days 4 5 7 14 28]`` makes up hold-outs whose days have weather: on each, the rate of events, how well each of
two models tells them apart, and the number of rows are drawn anew. The truth is what many thousand such days give. For
hold-outs of a few days it counts how many of the 95 % intervals hold it, of each model's metrics and of what the two differ by:

* ours: the jackknife over days of a metric, the expanded percentiles of drawn days of a difference
* days: plain percentiles of drawn days
* BCa: bias-corrected and accelerated ones (Efron 1987)
* rows: percentiles of drawn rows, as if rows of one day had nothing in common
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, ndtri

from ratchet.domain.day_sums import DaySums
from ratchet.domain.intervals import Told, differences, draws, left_out, metric_intervals
from ratchet.domain.losses import row_losses
from ratchet.domain.measuring import Measuring

if TYPE_CHECKING:
    from collections.abc import Iterator

HOW = Measuring(task="binary", threshold=0.35)
METRICS = ("log_loss", "auc", "pr_auc", "precision", "recall", "calibration", "macro_f1")
DAYS = (4, 5, 7, 14, 28)
TRUTH_DAYS, ROWS, ROW_DRAWS = 4000, 60, 300
Z = 1.959964


def world(random: np.random.Generator, days: int) -> tuple[Any, Any, Any, Any]:
    """Return each row's day and label, and what two models say of it."""
    size = np.maximum(5, (ROWS * np.exp(0.3 * random.normal(size=days))).astype(int))
    day = np.repeat(np.arange(days), size)
    weather, champions, challengers = random.normal(size=(3, days)) * np.array([[0.8], [0.3], [0.3]])
    x, z = random.normal(size=(2, len(day)))
    y = (random.random(len(day)) < _chance(-1.2 + x + weather[day] + 0.5 * z)).astype(float)
    return day, y, _chance(-1.2 + (0.9 + champions[day]) * x), _chance(-1.2 + (0.8 + challengers[day]) * x + 0.35 * z)


def _chance(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def others(values: Any, days: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Return the intervals that are not ours, of a metric of all days, without each, and of each draw."""
    whole, without, drawn = values[0], values[1 : 1 + days], values[1 + days :]
    drawn = drawn[np.isfinite(drawn)]
    yield "days", tuple(np.quantile(drawn, (0.025, 0.975)))
    below = float((drawn < whole).mean() + (drawn == whole).mean() / 2)
    bias = ndtri(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    leaning = without.mean() - without
    speed = (leaning**3).sum() / (6 * max((leaning**2).sum(), 1e-300) ** 1.5)
    shares = [ndtr(bias + (bias + z) / (1 - speed * (bias + z))) for z in (-Z, Z)]
    yield "BCa", tuple(np.quantile(drawn, np.clip(shares, 0, 1)))


def by_rows(random: np.random.Generator, y: Any, champion: Any, challenger: Any) -> dict[str, tuple[float, float]]:
    """Return intervals of the log loss, and of its difference, from drawn rows."""
    theirs, ours = (row_losses("log_loss", y, p) for p in (champion, challenger))
    drawn = random.integers(0, len(y), (ROW_DRAWS, len(y)))
    sides = {"value": ours, "difference": ours - theirs}
    return {side: tuple(np.quantile(v[drawn].mean(axis=1), (0.025, 0.975))) for side, v in sides.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--days", type=int, nargs="+", default=DAYS)
    asked = parser.parse_args()
    worlds = asked.worlds
    day, y, *models = world(np.random.default_rng(1), TRUTH_DAYS)
    every = np.ones((1, TRUTH_DAYS))
    theirs, ours = (DaySums(HOW, day, TRUTH_DAYS, y, p).metrics(every) for p in models)
    truth = {("value", m): float(ours[m][0]) for m in METRICS}
    truth |= {("difference", m): float(ours[m][0] - theirs[m][0]) for m in METRICS}
    print(f"of {worlds} hold-outs, in how many of 100 the 95 % interval holds the truth")
    print(f"{'':29}" + "".join(f"{m:>13}" for m in METRICS))
    for days in asked.days:
        held: dict[tuple[str, str, str], int] = defaultdict(int)
        for seed in range(worlds):
            day, y, champion, challenger = world(np.random.default_rng((days, seed)), days)
            intervals = metric_intervals(HOW, day, y, challenger)
            compared = differences(HOW, day, Told(y, champion), Told(y, challenger))
            weights = np.vstack([left_out(days), draws(days)])
            sums = [DaySums(HOW, day, days, y, p).metrics(weights) for p in (champion, challenger)]
            rows = by_rows(np.random.default_rng(seed), y, champion, challenger)
            for m in METRICS:
                found = compared[m]
                known = found.low is not None and found.high is not None
                reach: tuple[Any, Any] = (found.low, found.high) if known else (np.nan, np.nan)
                said = [("value", "ours", intervals.get(m, (np.nan, np.nan))), ("difference", "ours", reach)]
                with np.errstate(invalid="ignore"):  # a draw without events has no calibration
                    gained = sums[1][m] - sums[0][m]
                for side, values in (("value", sums[1][m]), ("difference", gained)):
                    said += [(side, name, interval) for name, interval in others(values, days)]
                    said += [(side, "rows", rows[side])] if m == "log_loss" else []
                for side, name, (low, high) in said:
                    held[side, name, m] += low <= truth[side, m] <= high
        for side in ("value", "difference"):
            for name in ("ours", "days", "BCa", "rows"):
                shown = [100 * held[side, name, m] / worlds if (side, name, m) in held else None for m in METRICS]
                cells = "".join(f"{'':>13}" if v is None else f"{v:13.1f}" for v in shown)
                print(f"{days:3} days  {side:10}  {name:4}  {cells}")


if __name__ == "__main__":
    main()
