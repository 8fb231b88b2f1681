"""Orders: NDCG as scikit-learn has it, ties in no order, lists that say nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from ratchet.domain.losses import by_day, daily_losses, mean_loss, row_losses, row_weights
from ratchet.domain.measuring import Measuring
from ratchet.domain.rankings import lists_of, numbered

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(-2, 2), st.integers(0, 3)), min_size=1, max_size=30)
RANKING = Measuring(task="ranking", ndcg_at=3)


def columns(rows):
    """Return relevances, scores and list numbers."""
    y, scores, lists = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return y, scores, numbered(lists)


@given(rows=ROWS, k=st.integers(1, 8))
def test_ndcg_is_that_of_scikit_learn(rows, k):
    """Of each list that has an order to find, ties included, NDCG is scikit-learn's."""
    y, scores, lists = columns(rows)
    found = lists_of(y, scores, lists, k)
    for number in np.flatnonzero(found.counts):
        here = lists == number
        assert found.ndcg[number] == pytest.approx(ndcg_score([y[here]], [scores[here]], k=k))


@given(rows=ROWS, k=st.integers(1, 8), seed=st.integers(0, 99))
def test_order_of_rows_decides_nothing(rows, k, seed):
    """However the rows lie in the file, each list is measured the same."""
    y, scores, lists = columns(rows)
    order = np.random.default_rng(seed).permutation(len(y))
    for one, other in zip(
        lists_of(y, scores, lists, k), lists_of(y[order], scores[order], lists[order], k), strict=True
    ):
        assert one == pytest.approx(other)


@given(rows=ROWS, k=st.integers(1, 8))
def test_measures_stay_between_nothing_and_one(rows, k):
    """No order is worse than 0 or better than 1, and the perfect one has 1."""
    y, scores, lists = columns(rows)
    found = lists_of(y, scores, lists, k)
    for values in (found.ndcg, found.reciprocal_rank, found.precision):
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    assert lists_of(y, y, lists, k).ndcg == pytest.approx(1)


def test_constant_score_is_a_random_order():
    """One score for all rows has the mean NDCG of many shuffles."""
    y, lists = np.array([3.0, 0, 1, 0, 0, 2]), np.zeros(6, int)
    random = np.random.default_rng(1)
    shuffled = [lists_of(y, random.permutation(6).astype(float), lists, 3).ndcg[0] for _ in range(4000)]
    assert lists_of(y, np.zeros(6), lists, 3).ndcg[0] == pytest.approx(np.mean(shuffled), abs=0.01)


def test_ties_gain_nothing():
    """Of rows with one score the relevant one counts as the last of them, and precision is that of any order of them."""
    found = lists_of(np.array([1.0, 0, 0, 0]), np.array([1.0, 1, 1, 0]), np.zeros(4, int), 2)
    assert found.reciprocal_rank[0] == pytest.approx(1 / 3)
    assert found.precision[0] == pytest.approx(1 / 3)


@given(rows=ROWS, seed=st.integers(0, 99))
def test_reciprocal_rank_is_that_of_the_worst_order(rows, seed):
    """However rows of one score are put in order, the first relevant one stands no further down; in one order it stands there."""
    y, scores, lists = columns(rows)
    found = lists_of(y, scores, lists, 3).reciprocal_rank
    tried = []
    for last in (np.random.default_rng(seed).random(len(y)), (y > 0).astype(float)):  # any order, and the worst
        order = np.lexsort((last, -scores, lists))
        places = [np.flatnonzero(y[order][lists[order] == n] > 0) for n in range(len(found))]
        tried.append([1 / (there[0] + 1) if len(there) else 0.0 for there in places])
    assert (np.array(tried[0]) >= found - 1e-12).all()
    assert found == pytest.approx(tried[1])


def test_each_list_counts_once():
    """A day's loss is the mean over its lists, however long they are; a list without an order to find is left out."""
    days = np.array(["2024-03-01"] * 7 + ["2024-03-02"] * 2, "datetime64[D]")
    lists = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2])
    y = np.array([1.0, 0, 0, 0, 0, 0, 1, 2, 2])
    scores = np.array([1.0, 0, 0, 0, 0, 1, 0, 0, 1])
    of_second = 1 - 1 / np.log2(3)
    assert daily_losses("ndcg_loss", days, y, scores, RANKING, lists) == {
        "2024-03-01": (7, pytest.approx(of_second / 2))
    }
    assert mean_loss("ndcg_loss", y, scores, RANKING, lists) == pytest.approx(of_second / 2)
    assert row_weights(y, lists).tolist() == pytest.approx([0.2] * 5 + [0.5] * 2 + [0] * 2)


def test_part_of_the_lists_is_measured_by_itself():
    """Numbers of lists need not be those from 0 on: what is measured may be a few of many."""
    y, scores, lists = np.array([1.0, 0]), np.array([0.0, 1]), np.array([70, 70])
    assert mean_loss("ndcg_loss", y, scores, RANKING, lists) == pytest.approx(1 - 1 / np.log2(3))


def test_score_that_is_no_number_is_no_order():
    """A list with a score that is NaN has no NDCG, rather than some."""
    found = lists_of(np.array([1.0, 0, 1, 0]), np.array([np.nan, 1, 1, 0]), np.array([0, 0, 1, 1]), 3)
    assert np.isnan(found.ndcg).tolist() == [True, False]
    assert np.isnan(mean_loss("ndcg_loss", np.array([1.0, 0]), np.array([np.nan, 1]), RANKING, np.array([0, 0])))


def test_nothing_has_no_mean():
    """No row, or no list with an order to find, gives no loss instead of a perfect one."""
    nothing = np.zeros(0)
    assert by_day(nothing.astype("datetime64[D]"), nothing) == {}
    assert np.isnan(mean_loss("ndcg_loss", nothing, nothing, RANKING, nothing.astype(int)))
    assert np.isnan(mean_loss("ndcg_loss", np.ones(2), np.ones(2), RANKING, np.zeros(2, int)))


def test_row_has_the_loss_of_its_list():
    """Each row of a list says the same."""
    losses = row_losses(
        "ndcg_loss", np.array([0.0, 1, 0, 1]), np.array([1.0, 0, 0, 1]), RANKING, np.array([0, 0, 1, 1])
    )
    assert losses == pytest.approx([1 - 1 / np.log2(3)] * 2 + [0] * 2)
