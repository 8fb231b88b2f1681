"""Labels of more rows than are looked at together are those of each row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ratchet.adapters.matrix import ROWS, labels
from ratchet.domain.models import ModelSchema


def schema(task, classes=()):
    """Return the schema of a model without features."""
    return ModelSchema(task=task, features=(), classes=classes, best_iteration=0, tables={}, hidden=(), target="y")


def test_labels_are_those_of_each_row_wherever_chunks_and_stretches_end():
    """Numbers stay what they are, classes become their numbers, and one that training never met becomes -1."""
    n = 2 * ROWS + 3
    numbers = np.arange(n) * 0.5
    chunked = pa.chunked_array([numbers[:5], numbers[5 : ROWS + 1], numbers[ROWS + 1 :]])
    assert labels(schema("regression"), pa.table({"target": chunked})).tolist() == numbers.tolist()
    texts = pa.chunked_array([pa.array(["a", "b", "new"]).take(np.arange(n) % 3)])
    found = labels(schema("multiclass", ("a", "b")), pa.table({"target": texts}))
    assert found.tolist() == np.array([0.0, 1.0, -1.0])[np.arange(n) % 3].tolist()
    assert labels(schema("binary", ("0", "1")), pa.table({"target": pa.array([True, False])})).tolist() == [1.0, 0.0]
    assert labels(schema("regression"), pa.table({"target": pa.array([], pa.float64())})).tolist() == []
