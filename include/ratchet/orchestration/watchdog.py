"""The DAG that watches the others: a pipeline whose night has come to no decision by its deadline is told of, whatever the cause."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from ratchet.errors import RatchetError
from ratchet.home import default_home, load_pipeline, pipeline_names
from ratchet.orchestration import notes
from ratchet.orchestration.retries import WeatherOnly
from ratchet.orchestration.tasks import connected

EVERY_HOUR = "40 * * * *"


def watchdog_dag(doc: str) -> DAG:
    """Return the DAG; ``doc`` is the stub's docstring."""
    with DAG(
        dag_id="watchdog",
        description="Tell of nights that came to no decision by their deadline, also when they never ran.",
        doc_md=doc,
        schedule=EVERY_HOUR,
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,  # it watches from the first day on
        dagrun_timeout=timedelta(minutes=30),
        tags={"ratchet"},
        default_args={
            "owner": "ratchet",
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_policy": WeatherOnly(),
            "execution_timeout": timedelta(minutes=10),
            "doc_md": "Looks for each pipeline's newest decided night; red as long as one is overdue.",
        },
    ) as dag:
        task(look)()
    dag.fileloc = sys._getframe(1).f_code.co_filename  # noqa: SLF001  the stub, not this file, is the DAG's source
    return dag


def look(dag_run: Any = None) -> None:
    """Look at every pipeline; fail, and say which on the run, where one is overdue or cannot be looked at."""
    import logging  # noqa: PLC0415

    from ratchet.steps.overdue import overdue  # noqa: PLC0415

    log, services, late = logging.getLogger(__name__), connected(), []
    for name in pipeline_names(default_home()):
        try:
            words = overdue(services, load_pipeline(name), datetime.now(UTC))
        except RatchetError as exc:
            if exc.retryable:
                raise
            words = str(exc)  # a broken spec or ledger: its night cannot run either
        if words:
            late.append(f"{name}: {words}")
    said = "; ".join(late) or "every pipeline has its decision"
    log.info(said)
    notes.write(dag_run.dag_id, dag_run.run_id, f"OVERDUE: {said}" if late else said, log.info)
    if late:
        raise AirflowFailException(said)
