"""Intervals of shown metrics, clustered by day."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from ratchet.domain.intervals import _auc, gain_interval, metric_intervals
from ratchet.domain.losses import row_losses


def day_numbers(days, rows):
    """Return the dates of rows that stand day by day."""
    return np.repeat(np.datetime64("2024-01-01") + np.arange(days), rows)


def test_days_of_one_size_give_the_interval_of_their_means():
    """With as many rows on each day the interval of a mean loss is Student's over the daily means."""
    rng = np.random.default_rng(3)
    days, rows = 7, 50
    y, p = (rng.random(days * rows) < 0.3).astype(float), rng.random(days * rows)
    low, high = metric_intervals("binary", day_numbers(days, rows), y, p)["brier"]
    means = row_losses("brier", y, p).reshape(days, rows).mean(axis=1)
    reach = student.ppf(0.975, days - 1) * means.std(ddof=1) / sqrt(days)
    assert (low, high) == pytest.approx((means.mean() - reach, means.mean() + reach))


def test_the_truth_is_covered_where_days_have_weather():
    """Rows of one day move together; nine intervals of ten or more hold the truth, of those over rows hardly half."""
    rng = np.random.default_rng(4)
    truth, days, rows = sqrt(2) * sqrt(2 / np.pi), 10, 30
    by_day, by_row = [], []
    for _ in range(400):
        y = np.repeat(rng.normal(size=days), rows) + rng.normal(size=days * rows)
        low, high = metric_intervals("regression", day_numbers(days, rows), y, np.zeros(days * rows))["mae"]
        by_day.append(low <= truth <= high)
        reach = 1.96 * np.abs(y).std(ddof=1) / sqrt(len(y))
        by_row.append(abs(np.abs(y).mean() - truth) <= reach)
    assert np.mean(by_day) > 0.88
    assert np.mean(by_row) < 0.65


def test_what_cannot_be_told_is_left_out():
    """One day has no interval; a metric that a day's absence leaves undefined has none, the others have theirs."""
    y, p = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.6, 0.2, 0.1, 0.3])
    assert metric_intervals("binary", day_numbers(1, 4), y, p) == {}
    found = metric_intervals("binary", day_numbers(2, 2), y, p)
    assert set(found) == {"log_loss", "brier", "accuracy"}
    three = np.eye(3)[[0, 1, 2, 0]]
    assert set(metric_intervals("multiclass", day_numbers(2, 2), np.array([0.0, 1, -1, 0]), three)) == set(found)


def test_the_area_is_scikit_learns():
    """Ties count half."""
    rng = np.random.default_rng(5)
    y, p = (rng.random(500) < 0.3).astype(float), rng.integers(0, 20, 500) / 20
    assert _auc(y, p) == pytest.approx(roc_auc_score(y, p))


def test_a_gain_has_an_interval_over_days():
    """Of two days or more, and of finite numbers."""
    low, high = gain_interval([0.1, 0.2, 0.3])
    assert low < 0.2 < high
    assert gain_interval([0.1]) is None
    assert gain_interval([0.1, float("nan")]) is None
