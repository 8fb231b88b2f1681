"""Features whose column has no value: it has no kind of its own, whatever its file is read as."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ratchet.adapters.matrix import matrix
from ratchet.domain.models import Feature, ModelSchema
from ratchet.errors import DataRejected

SCHEMA = ModelSchema(
    task="binary",
    features=(
        Feature(name="late", kind="category"),  # training has met no value of it
        Feature(name="speed", kind="number"),
        Feature(name="place", kind="category", categories=("a",)),
    ),
    classes=("0", "1"),
    best_iteration=0,
)
GIVEN = {"late": pa.nulls(2, pa.string()), "speed": pa.array([1.0, 2.0]), "place": pa.array(["a", "b"])}


@pytest.mark.parametrize("late", [pa.array([3.5, None]), pa.array([7, 8]), pa.array(["x", None])])
def test_what_training_has_met_no_value_of_is_missing(late):
    """A column that was empty while the model learnt may come to hold numbers or texts: the model sees no value, as before."""
    found = matrix(SCHEMA, pa.table({**GIVEN, "late": late}))
    assert np.array_equal(found, matrix(SCHEMA, pa.table(GIVEN)), equal_nan=True)
    assert np.isnan(found[:, 0]).all()


@pytest.mark.parametrize("name", ["speed", "place"])
@pytest.mark.parametrize("kind", [pa.string(), pa.float64(), pa.null()])
def test_a_column_without_values_is_missing_whatever_it_is_read_as(name, kind):
    """A column that is empty today (a CSV's reads as text) is no change of kind."""
    found = matrix(SCHEMA, pa.table({**GIVEN, name: pa.nulls(2, kind)}))
    assert np.isnan(found[:, 1 if name == "speed" else 2]).all()


@pytest.mark.parametrize(("name", "values"), [("speed", ["fast", None]), ("place", [1.0, None])])
def test_values_of_another_kind_are_refused(name, values):
    """Where there are values, a text is no number, and a number no text."""
    with pytest.raises(DataRejected, match=rf"feature {name} is a \w+ .*, the model was trained on a"):
        matrix(SCHEMA, pa.table({**GIVEN, name: pa.array(values)}))
