"""Imported once by the parent process of Airflow's workers: what it has loaded, no task needs to import again.

CPython swallows an ImportError of a preloaded module, and tasks would merely be slow; so this module says what happened,
in the scheduler's log and in ``preload.json`` of the state folder, which ``ratchet status`` shows.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

# Import only: nothing here may start a thread or train, which would not survive the fork.
MODULES = (
    # what Airflow itself imports in a worker and in a task, which its own preloading leaves out
    "airflow.sdk.execution_time.supervisor",
    "airflow.dag_processing.dagbag",
    "airflow.dag_processing.bundles.local",
    "airflow.serialization.serialized_objects",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.connection",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.hitl",
    "airflow.sdk.definitions.asset.metadata",
    "jinja2.ext",
    # what the steps of the night use
    "pandas",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "duckdb",
    "duckdb_engine",
    "boto3",
    "botocore.client",
    "s3transfer",
    "great_expectations",
    "great_expectations.core.expectation_suite",
    "mlflow",
    "mlflow.pyfunc",
    "mlflow.xgboost",
    "mlflow.tracking.client",
    "mlflow.store.artifact.mlflow_artifacts_repo",
    "xgboost",
    "sklearn.metrics",
    "scipy.stats",
    "jinja2",
    "yaml",
    "ratchet.spec",
    "ratchet.wiring",
    "ratchet.steps.night",
    "ratchet.orchestration",
)


def preload(modules: tuple[str, ...] = MODULES) -> dict[str, object]:
    """Import the modules; return how many, how long, and which failed and why."""
    started, failed = time.monotonic(), {}
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as exc:  # noqa: BLE001  a library may fail in any way; a slow task is better than none
            failed[name] = f"{type(exc).__name__}: {exc}"[:300]
    return {
        "pid": os.getpid(),
        "loaded": len(modules) - len(failed),
        "failed": failed,
        "seconds": round(time.monotonic() - started, 1),
    }


def _report() -> None:
    found = preload()
    verdict = "all of them" if not found["failed"] else f"but not {found['failed']}"
    sys.stderr.write(f"ratchet: warm workers: {found['loaded']} modules preloaded in {found['seconds']} s, {verdict}\n")
    state = os.environ.get("RATCHET_STATE")
    if state:
        try:
            (Path(state) / "preload.json").write_text(json.dumps(found))
        except OSError as exc:
            sys.stderr.write(f"ratchet: preload.json: {exc}\n")


if os.environ.get("RATCHET_STACK_SERVICE"):  # only inside the stack, not where a tool merely imports this module
    _report()
