"""Intervals of shown metrics and of what two models differ by, clustered by day."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from ratchet.adapters.metrics import metrics
from ratchet.domain.day_sums import DaySums
from ratchet.domain.gates import METRICS
from ratchet.domain.intervals import Told, differences, draws, gain_interval, metric_intervals
from ratchet.domain.losses import row_losses
from ratchet.domain.measuring import Measuring

HOW = {
    "binary": Measuring(task="binary", threshold=0.3),
    "multiclass": Measuring(task="multiclass", top_k=2),
    "regression": Measuring(task="regression"),
    "quantile": Measuring(task="quantile", quantiles=(0.1, 0.4, 0.9)),
    "ranking": Measuring(task="ranking", ndcg_at=4),
}


def day_numbers(days, rows):
    """Return the dates of rows that stand day by day."""
    return np.repeat(np.datetime64("2024-01-01") + np.arange(days), rows)


def told(task, rng, rows):
    """Return labels, predictions and lists of a task, with ties, a class that nobody met, and lists that tell nothing."""
    lists = None
    if task == "binary":
        y, p = (rng.random(rows) < 0.3).astype(float), rng.integers(0, 40, rows) / 40
    elif task == "multiclass":
        y, p = rng.integers(-1, 4, rows).astype(float), rng.integers(1, 9, (rows, 4)).astype(float)
        p /= p.sum(axis=1, keepdims=True)
    elif task == "regression":
        y, p = rng.normal(size=rows), rng.normal(size=rows)
    elif task == "quantile":
        y, p = rng.normal(size=rows), np.sort(rng.normal(size=(rows, 3)), axis=1)
    else:
        y, p = rng.integers(0, 4, rows).astype(float), rng.integers(0, 30, rows).astype(float)
        lists = rng.integers(0, rows // 5 + 1, rows)
    return y, p, lists


@pytest.mark.parametrize("task", HOW)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60), days=st.integers(1, 5))
def test_sums_by_day_give_scikit_learns_metrics(task, seed, rows, days):
    """Whatever the rows are, the metrics from which intervals come are the ones that are shown, and undefined where these are."""
    rng = np.random.default_rng(seed)
    y, p, lists = told(task, rng, rows)
    of_days = rng.integers(0, days, rows)
    shown = metrics(HOW[task], y, p, lists)
    ours = DaySums(HOW[task], of_days, days, y, p, lists).metrics(np.ones((1, days)))
    assert set(ours) == set(shown)
    for name, value in shown.items():
        if value is None:
            assert not np.isfinite(ours[name][0])
        else:
            assert ours[name][0] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("task", HOW)
def test_every_metric_that_a_gate_may_bound_is_computed(task):
    """What a spec may name is among what is shown."""
    y, p, lists = told(task, np.random.default_rng(1), 200)
    assert set(METRICS[task]) <= set(metrics(HOW[task], y, p, lists))


def test_a_day_that_counts_twice_is_a_day_that_stands_there_twice():
    """Weights are what drawing days again would give."""
    rng = np.random.default_rng(2)
    for task, how in HOW.items():
        y, p, _ = told(task, rng, 60)
        lists = np.arange(60) // 6 if task == "ranking" else None
        days = np.repeat(np.arange(3), [24, 12, 24])
        drawn = np.concatenate([np.flatnonzero(days == d) for d in (0, 0, 2)])
        again = None if lists is None else np.concatenate([lists[days == 0], 100 + lists[days == 0], lists[days == 2]])
        weighed = DaySums(how, days, 3, y, p, lists).metrics(np.array([[2.0, 0.0, 1.0]]))
        for name, value in metrics(how, y[drawn], p[drawn], again).items():
            assert weighed[name][0] == pytest.approx(value), (task, name)


def test_many_different_scores_are_told_apart_finely_enough():
    """Areas over sorted bins differ from the exact ones by less than a thousandth."""
    rng = np.random.default_rng(8)
    y = (rng.random(20_000) < 0.2).astype(float)
    p = 1 / (1 + np.exp(-rng.normal(size=20_000) - y))
    exact = metrics(HOW["binary"], y, p)
    binned = DaySums(HOW["binary"], np.zeros(20_000, int), 1, y, p).metrics(np.ones((1, 1)))
    assert binned["auc"][0] == pytest.approx(exact["auc"], abs=1e-3)
    assert binned["pr_auc"][0] == pytest.approx(exact["pr_auc"], abs=2e-3)


def test_days_of_one_size_give_the_interval_of_their_means():
    """With as many rows on each day the interval of a mean loss is Student's over the daily means."""
    rng = np.random.default_rng(3)
    days, rows = 7, 50
    y, p = (rng.random(days * rows) < 0.3).astype(float), rng.random(days * rows)
    low, high = metric_intervals(HOW["binary"], day_numbers(days, rows), y, p)["brier"]
    means = row_losses("brier", y, p).reshape(days, rows).mean(axis=1)
    reach = student.ppf(0.975, days - 1) * means.std(ddof=1) / sqrt(days)
    assert (low, high) == pytest.approx((means.mean() - reach, means.mean() + reach), rel=1e-5)


def test_the_truth_is_covered_where_days_have_weather():
    """Rows of one day move together; nine intervals of ten or more hold the truth, of those over rows hardly half."""
    rng = np.random.default_rng(4)
    truth, days, rows = sqrt(2) * sqrt(2 / np.pi), 10, 30
    by_day, by_row = [], []
    for _ in range(400):
        y = np.repeat(rng.normal(size=days), rows) + rng.normal(size=days * rows)
        low, high = metric_intervals(HOW["regression"], day_numbers(days, rows), y, np.zeros(days * rows))["mae"]
        by_day.append(low <= truth <= high)
        reach = 1.96 * np.abs(y).std(ddof=1) / sqrt(len(y))
        by_row.append(abs(np.abs(y).mean() - truth) <= reach)
    assert np.mean(by_day) > 0.88
    assert np.mean(by_row) < 0.65


def test_differences_are_covered_where_days_have_weather():
    """Of two models that differ by chance of the day, nine intervals of ten or more hold the true difference; over rows, far fewer."""
    rng = np.random.default_rng(6)
    days, rows = 7, 40
    by_day, by_row = [], []
    for _ in range(300):
        y = rng.normal(size=days * rows)
        theirs, ours = (0.5 * np.repeat(rng.normal(size=days), rows) for _ in range(2))
        found = differences(HOW["regression"], day_numbers(days, rows), Told(y, theirs), Told(y, ours))["mae"]
        by_day.append(found.low <= 0 <= found.high)
        gained = np.abs(y - ours) - np.abs(y - theirs)
        by_row.append(abs(gained.mean()) <= 1.96 * gained.std(ddof=1) / sqrt(len(y)))
    assert np.mean(by_day) > 0.9
    assert np.mean(by_row) < 0.75


def test_a_difference_is_paired():
    """What makes a day bad for both models does not widen what they differ by; the same arguments give the same interval."""
    rng = np.random.default_rng(7)
    days, rows = 12, 30
    weather = np.repeat(3 * rng.normal(size=days), rows)
    y = weather + rng.normal(size=days * rows)
    at = day_numbers(days, rows)
    ours = np.full(len(y), 0.1)
    found = differences(HOW["regression"], at, Told(y, np.zeros(len(y))), Told(y, ours))["mae"]
    low, high = metric_intervals(HOW["regression"], at, y, ours)["mae"]
    assert found.high - found.low < (high - low) / 5
    assert found.low < found.difference < found.high
    assert (found.rows, found.days) == (360, 12)
    draws.cache_clear()
    assert differences(HOW["regression"], at, Told(y, np.zeros(len(y))), Told(y, ours))["mae"] == found


def test_few_days_take_the_jackknife():
    """Of four days draws say too little: the interval is Student's. Of one there is none, and of none nothing at all."""
    y, p, at = np.arange(8.0), np.zeros(8), day_numbers(4, 2)
    found = differences(HOW["regression"], at, Told(y, p), Told(y, p + 1))["mae"]
    gained = (np.abs(y - p - 1) - np.abs(y - p)).reshape(4, 2).mean(axis=1)
    reach = student.ppf(0.975, 3) * gained.std(ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((gained.mean() - reach, gained.mean() + reach), rel=1e-5)
    alone = differences(HOW["regression"], day_numbers(1, 8), Told(y, p), Told(y, p + 1))["mae"]
    assert (alone.low, alone.high) == (None, None)
    assert alone.difference == pytest.approx(gained.mean())
    nothing = np.zeros(0)
    assert differences(HOW["regression"], day_numbers(0, 0), Told(nothing, nothing), Told(nothing, nothing)) == {}


def test_what_cannot_be_told_is_left_out():
    """One day has no interval; a metric that a day's absence leaves undefined has none, the others have theirs."""
    y, p = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.6, 0.2, 0.1, 0.3])
    assert metric_intervals(HOW["binary"], day_numbers(1, 4), y, p) == {}
    found = metric_intervals(HOW["binary"], day_numbers(2, 2), y, p)
    assert {"log_loss", "brier", "accuracy", "alert_rate"} <= set(found)
    assert not {"auc", "pr_auc", "recall", "f1", "calibration"} & set(found)
    some = differences(HOW["binary"], day_numbers(2, 2), Told(y, p), Told(y, p))["auc"]
    assert (some.difference, some.low, some.high) == (0.0, None, None)


def test_a_draw_in_which_a_metric_is_undefined_is_no_draw():
    """Where few draws of days hold no event the others tell; where many do not, nothing is told."""
    rng = np.random.default_rng(1)
    at, theirs, ours = day_numbers(6, 10), rng.random(60), rng.random(60)
    for days_with_events, known in ((5, True), (1, False)):
        y = np.zeros(60)
        y[: 10 * days_with_events : 2] = 1
        found = differences(HOW["binary"], at, Told(y, theirs), Told(y, ours))["calibration"]
        assert found.difference is not None
        assert (found.low is not None) == known


def test_an_interval_stays_within_what_a_metric_can_be():
    """A share lies between 0 and 1, a loss is not negative; a difference may be anything."""
    rng = np.random.default_rng(9)
    y = np.repeat([0.0, 1.0, 0.0], 20)
    found = metric_intervals(HOW["binary"], day_numbers(3, 20), y, rng.random(60))
    assert all(low >= 0 for low, _ in found.values())
    assert all(high <= 1 for name, (_, high) in found.items() if name not in {"log_loss", "calibration"})
    assert found["accuracy"][0] < found["accuracy"][1]


def test_a_gain_has_an_interval_over_days():
    """Of two days or more, and of finite numbers."""
    low, high = gain_interval([0.1, 0.2, 0.3])
    assert low < 0.2 < high
    assert gain_interval([0.1]) is None
    assert gain_interval([0.1, float("nan")]) is None
