"""Run in a fresh process: load a registered model and check that it gives the predictions that were evaluated.

``python -m ratchet.adapters.smoke FOLDER DIGEST ROWS [EXPECTED]`` prints what scoring costs as JSON and exits with 0, or prints
what is wrong and exits with 1; without EXPECTED, each row must have a finite score, and the cost is not measured.
Nothing of the model is parsed before its digest is checked, and a file that crashes the parser takes this process only.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from ratchet.adapters.xgb import predict
from ratchet.domain.case import Cost
from ratchet.domain.models import ModelSchema, files_digest
from ratchet.ports import Tried

if TYPE_CHECKING:
    import pyarrow as pa

_TIMES = 5  # of which the median is the latency
_MIB = 1024 * 1024


def main(folder: str, digest: str, rows: str, expected: str | None = None) -> Tried:
    """Return what is wrong, or what scoring costs."""
    files = {name: (Path(folder) / name).read_bytes() for name in ("booster.ubj", "features.sql", "schema.json")}
    found = files_digest(files)
    if found != digest:
        return Tried(problem=f"the artifact's sha256 is {found}, evaluated was {digest}")
    schema, table = ModelSchema.model_validate_json(files["schema.json"]), pq.read_table(rows)
    scores = predict(files["booster.ubj"], schema, table)
    if expected is None:
        wrong = int((~np.isfinite(scores)).sum())
        return Tried(problem=f"{wrong} of {len(scores)} rows have no finite score" if wrong else None)
    wanted = np.load(expected, allow_pickle=False)
    if scores.shape != wanted.shape:
        return Tried(problem=f"the artifact gives scores of shape {scores.shape}, evaluated were {wanted.shape}")
    differing = int((scores != wanted).any(axis=-1).sum() if scores.ndim > 1 else (scores != wanted).sum())
    if differing:
        return Tried(problem=f"{differing} of {len(wanted)} predictions differ from those that were evaluated")
    return Tried(cost=_cost(files, schema, table))


def _cost(files: dict[str, bytes], schema: ModelSchema, table: pa.Table) -> Cost:
    memory = _peak()  # before the same rows are scored again and again
    thousand, seconds = table.slice(0, 1000), []
    for _ in range(_TIMES):
        began = perf_counter()
        predict(files["booster.ubj"], schema, thousand)
        seconds.append(perf_counter() - began)
    return Cost(
        artifact_mib=sum(len(data) for data in files.values()) / _MIB,
        latency_ms=1000 * median(seconds) * 1000 / max(thousand.num_rows, 1),
        memory_mib=memory,
    )


def _peak() -> float:
    """Return the most memory that this process has held, in MiB; macOS counts in bytes, Linux in KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024


if __name__ == "__main__":
    # xgboost imports scikit-learn when it can, which would be most of this process's time; nothing here needs it.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    tried = main(*sys.argv[1:])
    print(tried.problem or tried.model_dump_json())  # noqa: T201  read by the parent process
    sys.exit(tried.problem is not None)
