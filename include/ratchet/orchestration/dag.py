"""The factory: one pipeline's spec becomes one DAG of eleven tasks, and one before them where its data has to be waited for."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, CronDataIntervalTimetable

from ratchet.domain.night import STEPS
from ratchet.home import load_pipeline
from ratchet.orchestration import docs, retries
from ratchet.orchestration.events import ANY_CHAMPION, ANY_DRIFT, champion_asset
from ratchet.orchestration.params import form
from ratchet.orchestration.tasks import TIMEOUT, NobodyAsked, ReportTask, StepTask

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from ratchet.domain.night import StepName
    from ratchet.spec import PipelineSpec

_NIGHT = timedelta(hours=12)  # the longest that a night may take, apart from waiting for data or for a person


def training_dag(name: str) -> DAG:
    """Return the DAG of a pipeline.

    Raises:
        SpecInvalid: Airflow shows its words as the import error of this DAG, and of no other.
    """
    spec = load_pipeline(name).spec
    waiting = timedelta(hours=(spec.approval.timeout_hours if spec.approval.when else 0) + spec.wait_hours)
    searching = timedelta(minutes=spec.training.tuning.minutes if spec.training.tuning else 0)
    dag = DAG(
        dag_id=spec.name,
        description=spec.description,
        doc_md=docs.dag_doc(spec),
        schedule=CronDataIntervalTimetable(spec.schedule, timezone="UTC") if spec.schedule else None,
        start_date=datetime.combine(spec.start, time(), UTC),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=_NIGHT + waiting + searching,
        params=form(),
        tags={"ratchet", spec.target.task, *spec.tags},
        owner_links={spec.owner.name: f"mailto:{spec.owner.email}"} if spec.owner.email else {},
        default_args={
            "owner": spec.owner.name,
            "retries": retries.RETRIES,
            "retry_delay": retries.FIRST_DELAY,
            "retry_exponential_backoff": retries.BACK_OFF,
            "max_retry_delay": retries.MAX_DELAY,
            "retry_policy": retries.WeatherOnly(),
        },
    )
    dag.fileloc = sys._getframe(1).f_code.co_filename  # noqa: SLF001  the stub, not this file, is the DAG's source
    with dag:
        before: BaseOperator | None = _wait(spec) if spec.wait_hours else None
        for step in STEPS:
            task = _task(step, spec)
            if before is not None:
                before >> task
            before = task
        if spec.approval.when:  # an answer that Airflow loses is found by another attempt, after `promote` is skipped
            dag.task_dict["approve"] >> dag.task_dict["report"]
        if spec.segments:
            _segments(dag, spec)
    return dag


def _segments(dag: DAG, spec: PipelineSpec) -> None:
    """Hang the nights of the segments on the gate; the report comes after them, too, and tells of them."""
    from ratchet.orchestration.segments import segment_tasks  # noqa: PLC0415  only where it is needed

    first, last = segment_tasks(spec)
    dag.task_dict["gate"] >> first
    last >> dag.task_dict["report"]


def _wait(spec: PipelineSpec) -> BaseOperator:
    from ratchet.orchestration.waiting import WaitTask  # noqa: PLC0415  only where it is needed

    return WaitTask(pipeline=spec.name, doc_md=docs.WAIT)


def _task(step: StepName, spec: PipelineSpec) -> BaseOperator:
    common: dict[str, Any] = {"doc_md": docs.TASKS[step]}
    if step == "approve":
        if not spec.approval.when:
            return NobodyAsked(task_id=step, **common)
        from ratchet.orchestration import approval  # noqa: PLC0415  only where it is needed

        return approval.PersonApproves(pipeline=spec.name, approval=spec.approval, params=approval.form(), **common)
    if step == "tune" and spec.training.tuning is None:
        return NobodyAsked(task_id=step, **common)
    if step == "tune" and spec.training.tuning:  # trials that run when the time is over are finished
        common |= {"execution_timeout": timedelta(minutes=spec.training.tuning.minutes) + TIMEOUT}
    if step == "train" and spec.training.tuning is None:
        common |= {"after": "score"}
    if step == "report":
        return ReportTask(step=step, pipeline=spec.name, **common).as_teardown()
    if step == "promote":
        asset = champion_asset(spec.name)
        return StepTask(step=step, pipeline=spec.name, champion=asset, outlets=[asset], **common)
    if step == "score":  # where the watch may send the champion back
        retrain = spec.drift.action == "retrain"
        common |= {"retrain": retrain, "outlets": [ANY_CHAMPION, *([ANY_DRIFT] if retrain else [])]}
    return StepTask(step=step, pipeline=spec.name, **common)
