"""How well one feature alone tells the label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.leaks import decides, skill

ROWS = 4000
RANDOM = np.random.default_rng(5)
HOT = (RANDOM.random(ROWS) < 0.2).astype(float)
NOISE = RANDOM.normal(size=ROWS)
VALUE = np.exp(RANDOM.normal(0, 2, ROWS))  # a long tail


def gaps(values, share=0.3):
    """Leave some values out."""
    return np.where(RANDOM.random(len(values)) < share, np.nan, values)


LEAKS = {
    "the label itself": (HOT, False),
    "its contrary": (-HOT, False),
    "in order": (HOT * 10 + NOISE, False),
    "in another order": (10 * HOT - 5 * (RANDOM.random(ROWS) < 0.5) * 4 * HOT + NOISE, False),
    "a band in the middle": (np.where(HOT == 1, 0.01 * NOISE, np.sign(NOISE) + NOISE), False),
    "where it is null": (np.where(HOT == 1, np.nan, NOISE), False),
    "where it is not": (np.where(HOT == 0, np.nan, NOISE), False),
    "infinite": (np.where(HOT == 1, np.inf, NOISE), False),
    "names": (HOT * 50 + RANDOM.integers(0, 50, ROWS), True),
    "names without order": ((RANDOM.integers(0, 50, ROWS) * 2 + HOT), True),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_of_any_kind_shows(name):
    """A label in disguise decides it: by order, by bands, by nulls, by names."""
    feature, categories = LEAKS[name]
    assert skill(feature, HOT, "binary", categories=categories) > 0.99


@pytest.mark.parametrize("name", ["the label itself", "in order", "a band in the middle", "names without order"])
def test_a_leak_that_only_some_rows_have_shows(name):
    """What is filled in for a part of the rows once the label is known decides it there, however little it ranks of the whole."""
    feature, categories = LEAKS[name]
    some = np.where(np.arange(ROWS) % 10 < 3, feature, np.nan)
    assert skill(some, HOT, "binary", categories=categories) < 0.8
    value, rows = decides(some, HOT, "binary", categories=categories)
    assert value > 0.99
    assert rows == ROWS * 3 // 10


def test_of_a_few_rows_nothing_is_said_apart():
    """A feature that fewer than one in twenty rows have is judged over all rows: so few agree by chance."""
    feature = np.where(np.arange(ROWS) % 25 == 0, HOT, np.nan)
    assert decides(feature, HOT, "binary", categories=False) == (skill(feature, HOT, "binary", categories=False), ROWS)


@pytest.mark.parametrize("categories", [True, False])
def test_a_name_for_every_row_tells_nothing(categories):
    """An identifier is no leak, although each value has one label."""
    assert skill(np.arange(ROWS, dtype=float), HOT, "binary", categories=categories) < 0.7


def test_a_strong_feature_is_no_leak():
    """A feature that ranks nine of ten pairs rightly is a good one."""
    assert 0.85 < skill(1.8 * HOT + NOISE, HOT, "binary", categories=False) < 0.95


def test_a_class_of_many_is_told_on_average():
    """Each class counts as often as it comes: one that shows a rare class only does not decide the label."""
    classes = RANDOM.choice(4, ROWS, p=[0.5, 0.3, 0.15, 0.05]).astype(float)
    assert skill(classes, classes, "multiclass", categories=True) == pytest.approx(1)
    assert skill(classes * 3 + 0.1 * NOISE, classes, "multiclass", categories=False) > 0.99
    assert skill((classes == 3).astype(float), classes, "multiclass", categories=False) < 0.6


@pytest.mark.parametrize("feature", [VALUE, -3 * VALUE + 7, np.log(VALUE), gaps(VALUE, 0.001)])
def test_a_value_in_another_unit_explains_it(feature):
    """The label of a regression in another unit or on another scale explains all of it, however long its tail."""
    assert skill(feature, VALUE, "regression", categories=False) > 0.995


def test_a_good_predictor_explains_less():
    """A feature that is right but for a tenth of the spread is no leak."""
    assert 0.9 < skill(NOISE + 0.1 * RANDOM.normal(size=ROWS), NOISE, "regression", categories=False) < 0.995


@given(st.integers(0, 2**32 - 1), st.sampled_from(["binary", "multiclass", "regression"]), st.booleans())
def test_noise_is_never_a_leak(seed, task, categories):
    """A feature that has nothing to do with the label never decides it, with few rows or many, values or nulls."""
    random = np.random.default_rng(seed)
    rows = int(random.integers(1, 400))
    feature = np.where(random.random(rows) < random.random(), np.nan, random.integers(0, random.integers(1, 500), rows))
    labels = (
        random.normal(size=rows) if task == "regression" else random.integers(0, 2 if task == "binary" else 4, rows)
    )
    found = skill(feature.astype(float), labels.astype(float), task, categories=categories)
    assert found is None or found < 0.95


def test_too_few_rows_say_nothing():
    """With a handful of rows, or one class, or a label that never moves, there is nothing to say."""
    assert skill(HOT[:20], HOT[:20], "binary", categories=False) is None
    assert skill(NOISE, np.zeros(ROWS), "binary", categories=False) is None
    assert skill(NOISE, np.ones(ROWS), "regression", categories=False) is None
    assert skill(NOISE[:6], NOISE[:6], "regression", categories=False) is None
    assert skill(NOISE[:0], NOISE[:0], "binary", categories=True) is None
    assert skill(NOISE[:0], NOISE[:0], "regression", categories=False) is None


def test_a_feature_without_values_tells_nothing():
    """All null is one value."""
    assert skill(np.full(ROWS, np.nan), HOT, "binary", categories=False) == pytest.approx(0.5)
    assert skill(np.full(ROWS, np.nan), NOISE, "regression", categories=True) < 0.01
