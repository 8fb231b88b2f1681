"""How much a row counts in a fit: by its class, and by its age."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ratchet.adapters.matrix import ROWS, labels
from ratchet.errors import Problem, SpecInvalid

if TYPE_CHECKING:
    import pyarrow as pa

    from ratchet.adapters.batches import Weigh
    from ratchet.domain.models import ModelSchema
    from ratchet.domain.windows import Span
    from ratchet.ports import TrainingPlan
    from ratchet.tables import FeatureFrame, Floats


def weights(schema: ModelSchema, frame: FeatureFrame, days: Span, plan: TrainingPlan) -> Weigh | None:
    """Return how rows of some days are weighed; None where all count the same.

    A row counts ``c * 0.5 ** (a / half_life_days)``: ``c`` is its class's weight, ``a`` how many days before ``days.last`` it is dated to.
    Balanced weights are ``n / (k * m)`` for a class of ``m`` of ``n`` rows, of ``k`` classes, so that all classes weigh the same together.
    The early-stopping days are not weighed: they stand for the days to come, and gates judge by the same plain loss.

    Raises:
        SpecInvalid: weights are given for a class that the rows do not have.
    """
    by_class = _by_class(schema, frame, days, plan)
    half_life = plan.half_life_days
    if by_class is None and half_life is None:
        return None
    last = np.datetime64(days.last, "D")

    def weigh(table: pa.Table, y: Floats) -> Floats:
        found = np.ones(len(y))
        if by_class is not None:
            found = by_class[y.astype(np.int64)]  # a class that was never met is left out later
        if half_life is not None:
            age = (last - table["dt"].to_numpy().astype("datetime64[D]")).astype(np.float64)
            found = found * np.exp2(-age / half_life)
        return found

    return weigh


def _by_class(schema: ModelSchema, frame: FeatureFrame, days: Span, plan: TrainingPlan) -> Floats | None:
    """Return each class's weight, in the order of the schema's classes."""
    given, classes = plan.class_weights, schema.classes
    if given is None:
        return None
    if given == "balanced":
        rows, counts = frame.days(days.first, days.last, ("target",)), np.zeros(len(classes))
        for start in range(0, rows.num_rows, ROWS):
            counts += np.bincount(labels(schema, rows.slice(start, ROWS)).astype(np.int64), minlength=len(classes))
        balanced: Floats = counts.sum() / (len(classes) * counts)
        return balanced
    unknown = [name for name in given if name not in classes]
    if unknown:
        words = f"no row up to {days.last} has the class {', '.join(map(repr, unknown))}; there are: {', '.join(map(repr, classes))}"
        raise SpecInvalid([Problem("spec", "training.class_weights", words)])
    return np.array([given.get(name, 1.0) for name in classes])
