"""Run in a fresh process: load a registered model and check that it gives the predictions that were evaluated.

``python -m ratchet.adapters.smoke FOLDER DIGEST ROWS [EXPECTED]`` exits with 0, or prints what is wrong and exits with 1;
without EXPECTED, each row must have a finite score.
Nothing of the model is parsed before its digest is checked, and a file that crashes the parser takes this process only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ratchet.adapters.xgb import predict
from ratchet.domain.models import ModelSchema, files_digest


def main(folder: str, digest: str, rows: str, expected: str | None = None) -> str | None:
    """Return what is wrong, or None."""
    files = {name: (Path(folder) / name).read_bytes() for name in ("booster.ubj", "features.sql", "schema.json")}
    found = files_digest(files)
    if found != digest:
        return f"the artifact's sha256 is {found}, evaluated was {digest}"
    scores = predict(files["booster.ubj"], ModelSchema.model_validate_json(files["schema.json"]), pq.read_table(rows))
    if expected is None:
        wrong = int((~np.isfinite(scores)).sum())
        return f"{wrong} of {len(scores)} rows have no finite score" if wrong else None
    wanted = np.load(expected, allow_pickle=False)
    if scores.shape != wanted.shape:
        return f"the artifact gives scores of shape {scores.shape}, evaluated were {wanted.shape}"
    differing = int((scores != wanted).any(axis=-1).sum() if scores.ndim > 1 else (scores != wanted).sum())
    return f"{differing} of {len(wanted)} predictions differ from those that were evaluated" if differing else None


if __name__ == "__main__":
    # xgboost imports scikit-learn when it can, which would be most of this process's time; nothing here needs it.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    problem = main(*sys.argv[1:])
    if problem:
        print(problem)  # noqa: T201  read by the parent process
        sys.exit(1)
