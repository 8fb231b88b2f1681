"""What each feature adds to each prediction, by XGBoost's own TreeSHAP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ratchet.adapters.matrix import described, matrix
from ratchet.errors import NotExplained

if TYPE_CHECKING:
    import pyarrow as pa

    from ratchet.domain.models import ModelFiles
    from ratchet.tables import Floats

_ROUNDING = 1e-3  # of what was added up: sums of thousands of 32-bit numbers


def contributions(files: ModelFiles, table: pa.Table) -> Floats:
    """See ``ports.Trainer.contributions``."""
    import xgboost as xgb

    model = xgb.Booster()
    model.load_model(bytearray(files.booster))
    schema = files.schema_
    data = xgb.DMatrix(matrix(schema, table), **described(schema))
    try:
        margins = model.predict(data, output_margin=True).astype(np.float64)
        found = model.predict(data, pred_contribs=True).astype(np.float64)
    except xgb.core.XGBoostError as exc:
        said = next((line for line in str(exc).splitlines() if line.strip()), "")[:200]
        raise NotExplained(f"XGBoost does not explain such a booster: {said}") from exc
    rows, width = table.num_rows, len(schema.features) + 1
    found, margins = found.reshape(rows, -1, width), margins.reshape(rows, -1)
    off = np.abs(found.sum(axis=2) - margins)
    worst = off > _ROUNDING * (1 + np.abs(found).sum(axis=2))
    if worst.any():
        row, output = np.argwhere(worst)[0]
        raise NotExplained(
            f"of row {row} base and contributions add up to {found[row, output].sum():.6g}, the model's output is {margins[row, output]:.6g}"
        )
    explained: Floats = found
    return explained
