"""Replays nights through Airflow by a backfill, and tells what happens while it happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ratchet.domain.night import STEPS
from ratchet.errors import ServiceError
from ratchet.steps.history import nights
from ratchet.steps.report import headline

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from ratchet.airflow_api import AirflowApi
    from ratchet.domain.night import Night
    from ratchet.steps.context import Services

_POLL = 1.0  # seconds
_OVER = {"success", "failed"}
_SILENCE = 900.0  # seconds without any change after which something is wrong


def replay(
    airflow: AirflowApi,
    services: Services,
    pipeline: str,
    cutoffs: list[date],
    say: Callable[[str], None],
    now: Callable[[str], None],
) -> list[Night]:
    """Run the nights of ``cutoffs`` that have no decision yet, in order, and return the records of all of them.

    Args:
        airflow: a running Airflow.
        services: where the records are.
        pipeline: which one; its DAG has its name.
        cutoffs: consecutive dates, oldest first.
        say: told each thing that happened.
        now: told what is happening at the moment.

    Raises:
        ServiceError: Airflow made no progress.
    """
    airflow.wait_for_dag(pipeline)
    decided = {
        n.request.cutoff
        for n in nights(services, pipeline)
        if n.outcome not in {"failed", "rejected"} and not n.request.dry_run
    }
    missing = [cutoff for cutoff in cutoffs if cutoff not in decided]
    backfill = airflow.backfill(pipeline, missing[0], missing[-1]) if missing else None
    # Only now: a DAG that wakes before its backfill stands runs its newest night first, and older ones can follow no more.
    airflow.unpause(pipeline)
    if backfill is not None:
        say(f"{len(missing)} of {len(cutoffs)} nights to run: {missing[0]} … {missing[-1]}")
        _follow(airflow, services, pipeline, backfill, say, now)
    wanted = set(cutoffs)
    return [n for n in reversed(nights(services, pipeline)) if n.request.cutoff in wanted]


def _follow(
    airflow: AirflowApi,
    services: Services,
    pipeline: str,
    backfill: int,
    say: Callable[[str], None],
    now: Callable[[str], None],
) -> None:
    told: set[str] = set()
    state, since = "", time.monotonic()
    while True:
        over = airflow.backfill_done(backfill)
        for run in airflow.runs(pipeline, run_type="backfill"):
            if run["dag_run_id"] not in told and run["state"] in _OVER:
                told.add(run["dag_run_id"])
                say(_sentence(services, pipeline, run))
            elif run["state"] == "running":
                found = _at(run, airflow.tasks(pipeline, run["dag_run_id"]))
                if found != state:
                    state, since = found, time.monotonic()
                now(found)
        if over:
            return
        if time.monotonic() - since > _SILENCE:
            raise ServiceError(
                "Airflow",
                f"replaying {pipeline}",
                f"nothing has happened for {_SILENCE:.0f} s at: {state or 'the start'}; see the scheduler's log",
            )
        time.sleep(_POLL)


def _at(run: dict[str, Any], tasks: list[dict[str, Any]]) -> str:
    """Say which night is at which task."""
    order = {step: i for i, step in enumerate(STEPS)}
    done = sum(t["state"] in {"success", "skipped", "failed", "upstream_failed"} for t in tasks)
    at = [
        t["task_id"]
        for t in sorted(tasks, key=lambda t: order.get(t["task_id"], 99))
        if t["state"] in {"running", "queued", "scheduled", "up_for_retry"}
    ]
    return f"night {_date(run)}: {at[0] if at else 'scheduling'} ({done} of {len(STEPS)} tasks done)"


def _sentence(services: Services, pipeline: str, run: dict[str, Any]) -> str:
    cutoff = _date(run)
    night = next((n for n in nights(services, pipeline) if str(n.request.cutoff) == cutoff), None)
    took = f"{run['duration']:.0f} s" if run.get("duration") else ""
    return (
        f"night {cutoff} {took}: {headline(night) if night else 'FAILED, and left no record; see the run in Airflow'}"
    )


def _date(run: dict[str, Any]) -> str:
    return str(run.get("data_interval_start") or run["run_after"])[:10]
