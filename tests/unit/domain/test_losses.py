"""Row losses and daily means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, mean_pinball_loss
from sklearn.metrics import log_loss as sk_log_loss

from ratchet.domain.losses import CLIP, by_day, mean_loss, plain_log_losses, row_losses
from ratchet.domain.measuring import Measuring

PROBABILITIES = np.array([0.1, 0.9, 0.4])
LABELS = np.array([0.0, 1.0, 1.0])


def test_binary_losses_are_the_well_known_ones():
    """Log loss, Brier and zero-one agree with their definitions."""
    assert row_losses("log_loss", LABELS, PROBABILITIES) == pytest.approx(-np.log([0.9, 0.9, 0.4]))
    assert row_losses("brier", LABELS, PROBABILITIES).mean() == pytest.approx(brier_score_loss(LABELS, PROBABILITIES))
    assert row_losses("zero_one", LABELS, PROBABILITIES).tolist() == [0, 0, 1]


@pytest.mark.parametrize("shape", [(60,), (60, 4)])
def test_the_metric_is_that_of_scikit_learn(shape):
    """However sure a model is: a bare script finds the same figure. A class that was never met has a loss of its own."""
    rng = np.random.default_rng(5)
    raw = 1 / (1 + np.exp(-12 * rng.normal(size=shape)))
    p = raw if len(shape) == 1 else raw / raw.sum(axis=1, keepdims=True)
    y = rng.integers(0, 2 if len(shape) == 1 else 4, 60).astype(float)
    expected = sk_log_loss(y, p, labels=range(2 if len(shape) == 1 else 4))
    assert plain_log_losses(y, p).mean() == pytest.approx(expected, rel=1e-12)
    assert plain_log_losses(y, p).mean() > row_losses("log_loss", y, p).mean() + 0.01
    if len(shape) > 1:
        assert plain_log_losses(np.full(60, -1.0), p) == pytest.approx(-np.log(CLIP))


def test_one_confident_error_is_clipped():
    """The loss of a certain and wrong prediction is bounded."""
    assert row_losses("log_loss", np.array([1.0]), np.array([0.0]))[0] == pytest.approx(-np.log(CLIP))


@pytest.mark.parametrize("loss", ["log_loss", "brier", "zero_one"])
def test_a_class_that_was_never_met_is_the_worst_case(loss):
    """A row of an unknown class (−1) costs at least as much as any known one, and as one of a class that was given 0."""
    p = np.array([[0.7, 0.2, 0.1]] * 4)
    found = row_losses(loss, np.array([0.0, 1.0, 2.0, -1.0]), p)
    assert np.isfinite(found).all()
    assert found[3] == found.max()
    known = row_losses(loss, np.array([3.0]), np.array([[0.7, 0.2, 0.1, 0.0]]))
    assert found[3] == pytest.approx(known[0])


def test_regression_losses():
    """Squared and absolute errors are what they say."""
    y, p = np.array([1.0, 2.0]), np.array([3.0, 2.0])
    assert row_losses("squared_error", y, p).tolist() == [4, 0]
    assert row_losses("absolute_error", y, p).tolist() == [2, 0]


@given(found=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100)), max_size=50))
def test_daily_means_add_up(found):
    """Days are told once each with their rows, and rows times mean add up to the whole."""
    days = np.datetime64("2024-01-01") + np.array([d for d, _ in found], dtype=int)
    losses = np.array([x for _, x in found])
    made = by_day(days, losses)
    assert list(made) == sorted(made)
    assert sum(n for n, _ in made.values()) == len(found)
    assert sum(n * mean for n, mean in made.values()) == pytest.approx(losses.sum(), abs=1e-9)


@given(
    rows=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=20),
)
def test_pinball_is_the_mean_over_quantiles(rows):
    """The pinball loss is scikit-learn's, each quantile counting the same."""
    y, *predicted = (np.array(column) for column in zip(*rows, strict=True))
    quantiles = (0.2, 0.9)
    found = mean_loss("pinball", y, np.column_stack(predicted), Measuring(task="quantile", quantiles=quantiles))
    wanted = [mean_pinball_loss(y, p, alpha=q) for p, q in zip(predicted, quantiles, strict=True)]
    assert found == pytest.approx(np.mean(wanted))


@given(y=st.floats(-9, 9), predicted=st.lists(st.floats(-9, 9), min_size=3, max_size=3))
def test_quantiles_that_do_not_cross_are_no_worse(y, predicted):
    """Sorting the quantiles of a row never makes its pinball loss greater."""
    measuring = Measuring(task="quantile", quantiles=(0.1, 0.5, 0.9))
    crossing, sorted_ = (
        row_losses("pinball", np.array([y]), np.array([p]), measuring)[0] for p in (predicted, sorted(predicted))
    )
    assert sorted_ <= crossing + 1e-12
