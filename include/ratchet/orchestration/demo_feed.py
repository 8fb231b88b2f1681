"""The DAG of the demo's feed: each night, an hour before the models retrain, the flights of the day that has ended land."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable, task

from ratchet.orchestration import connections, retries

AT = "0 2 * * *"  # UTC; flight_delay retrains at three


def feed_dag(doc: str) -> DAG:
    """Return the DAG; ``doc`` is the stub's docstring."""
    with DAG(
        dag_id="demo_feed",
        description="Land yesterday's flights and weather, and whatever was missed before.",
        doc_md=doc,
        schedule=CronDataIntervalTimetable(AT, timezone="UTC"),
        start_date=datetime(2024, 1, 2, tzinfo=UTC),
        catchup=False,  # one run makes up for all that were missed
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=30),
        tags={"ratchet", "demo"},
        default_args={
            "owner": "demo",
            "retries": retries.RETRIES,
            "retry_delay": retries.FIRST_DELAY,
            "retry_exponential_backoff": retries.BACK_OFF,
            "max_retry_delay": retries.MAX_DELAY,
            "retry_policy": retries.WeatherOnly(),
        },
    ) as dag:
        task(execution_timeout=timedelta(minutes=10))(land)()
    dag.fileloc = sys._getframe(1).f_code.co_filename  # noqa: SLF001  the stub, not this file, is the DAG's source
    return dag


def land(dag_run: Any = None) -> None:
    """Land every day up to the one before this run; days that lie in the lake already are left alone."""
    from ratchet import wiring  # noqa: PLC0415
    from ratchet.demo import feed  # noqa: PLC0415

    log = logging.getLogger(__name__)
    connections.use(connections.environment())
    landed = feed.land_live(wiring.services().store, today=dag_run.run_after.astimezone(UTC).date(), say=log.info)
    log.info("%s: %d objects written, %d were there", landed.days, landed.objects, landed.unchanged)
