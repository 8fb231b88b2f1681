"""Metrics of decisions are scikit-learn's own, whichever classes are there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from ratchet.adapters.metrics import metrics
from ratchet.domain.measuring import Measuring

Rows = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=1, max_size=30)


def macro(score, y, chosen):
    """Return what scikit-learn says of the classes that are there."""
    return score(y, chosen, average="macro", labels=np.unique(y), zero_division=0)


@given(rows=Rows)
def test_decisions_on_many_classes_are_scored_as_by_scikit_learn(rows):
    """To the last digit, with classes that the model never met and classes that never come."""
    y, chosen = np.array(rows, float).T
    found = metrics(Measuring(task="multiclass"), y, np.eye(4)[chosen.astype(int)])
    assert found["accuracy"] == sk.accuracy_score(y, chosen)
    assert found["balanced_accuracy"] == macro(sk.recall_score, y, chosen)
    assert found["macro_f1"] == macro(sk.f1_score, y, chosen)


@given(rows=Rows)
def test_decisions_on_two_classes_are_scored_as_by_scikit_learn(rows):
    """To the last digit; without events or without alerts there is nothing to divide by, and it is said."""
    y, chosen = (np.array(rows).T > 1).astype(float)
    found = metrics(Measuring(task="binary"), y, chosen)
    assert found["balanced_accuracy"] == macro(sk.recall_score, y, chosen)
    assert found["macro_f1"] == macro(sk.f1_score, y, chosen)
    assert found["precision"] == (sk.precision_score(y, chosen) if chosen.any() else None)
    assert found["recall"] == (sk.recall_score(y, chosen) if y.any() else None)
    assert found["f1"] == (sk.f1_score(y, chosen, zero_division=0) if y.any() else None)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_nothing_is_said_of_no_rows(task):
    """There is no metric of nothing."""
    assert metrics(Measuring(task=task), np.array([]), np.zeros((0, 2))) == {}
