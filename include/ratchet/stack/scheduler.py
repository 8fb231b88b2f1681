"""Runs Airflow's scheduler with warm workers from the start: ``python -m ratchet.stack.scheduler``.

The process from which workers are forked is otherwise started with the first task, which then waits for it to import
Great Expectations, MLflow and XGBoost.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import sys


def main() -> None:
    """Start the workers' parent process, then the scheduler."""
    names = os.environ.get("AIRFLOW__CORE__MP_FORKSERVER_PRELOAD", "")
    multiprocessing.set_forkserver_preload([name for name in names.split(",") if name])
    multiprocessing.forkserver.ensure_running()
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    airflow()


if __name__ == "__main__":  # a worker imports this module too
    main()
