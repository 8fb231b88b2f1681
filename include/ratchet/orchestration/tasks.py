"""The eleven tasks: thin shells that take the night from the task before, run one step, and say in Airflow's words how it ended.

They are operators of our own, for they cost less than ``@task``: no fields are rendered, and the only thing handed on is
the night, which holds references. Whatever is heavy is imported when a step runs, from what the worker has preloaded.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DownstreamTasksSkipped

from ratchet.domain.night import STEPS, Ended, Night, NightRequest, StepName
from ratchet.errors import RatchetError, UsageError
from ratchet.home import load_pipeline
from ratchet.orchestration import approvers, connections, kept, notes
from ratchet.orchestration.events import ANY_CHAMPION, ANY_DRIFT, champion_asset, drift_asset, drifted, news
from ratchet.orchestration.links import LINKS, StepLink, addresses
from ratchet.orchestration.params import check_override, request
from ratchet.orchestration.retries import can_pass, tried_before, was_cleared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Asset

    from ratchet.domain.night import ScoreResult
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services

WAIT = "wait"  # the task that comes before the steps, where the night has to wait for its data
NIGHT = "night"  # the key under which each task hands the night on
_TIMEOUTS: dict[StepName, timedelta] = {
    "validate": timedelta(hours=2),
    "train": timedelta(hours=6),
}
TIMEOUT = timedelta(hours=1)
_AFTER: dict[StepName, StepName] = {"promote": "gate"}  # others follow the step before


class StepTask(BaseOperator):  # type: ignore[misc, unused-ignore]
    """One step of the night."""

    template_fields: Sequence[str] = ()
    ui_color = "#e8eefc"

    def __init__(
        self,
        *,
        step: StepName,
        pipeline: str,
        champion: Asset | None = None,
        retrain: bool = False,
        after: StepName | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("execution_timeout", _TIMEOUTS.get(step, TIMEOUT))
        super().__init__(task_id=step, do_xcom_push=False, **kwargs)
        self.params = (
            ParamsDict()
        )  # those of the DAG are there anyhow; a copy in each task would make it thrice as large
        self.step: StepName = step
        self.pipeline = pipeline
        self.champion = champion
        self.retrain = retrain  # whether drift asks for one
        self.after = after or _AFTER.get(step) or STEPS[max(STEPS.index(step) - 1, 0)]  # whose night it takes
        self.left_behind: dict[str, str] = {}  # addresses by the name of the link, once the step has run

    @property
    def operator_extra_links(self) -> tuple[StepLink, ...]:
        """The buttons on the task's page."""
        return tuple(StepLink(name) for name in LINKS.get(self.step, ()))

    def execute(self, context: Any) -> None:
        """Run the step; its end becomes a state that the grid shows."""
        from ratchet.steps.night import failed  # noqa: PLC0415

        night = None
        try:
            night, pipeline = self.begin(context)
            night = self.run(night, pipeline, context)
        except AirflowFailException:
            raise
        except Exception as exc:
            if night:
                hand_on(context, failed(night, self.step, exc))
            if can_pass(exc):
                raise
            raise AirflowFailException(words(exc)) from (None if isinstance(exc, UsageError) else exc)
        self.left_behind = addresses(self.step, night)
        hand_on(context, night)
        self.conclude(context, night)

    def begin(self, context: Any) -> tuple[Night, Pipeline]:
        """Return the night so far and its pipeline."""
        if self.step == STEPS[0]:
            return _begin(self.pipeline, context)
        night = handed_on(context, self.after)
        if night and self.step == "promote":
            night = self._decided(context, night)
        if night is None:
            raise AirflowFailException(
                "the task before has handed nothing on; clear the whole run, and it starts afresh"
            )
        if night.ended:
            raise AirflowFailException(
                f"the night ended in {night.ended.step}; a task marked as done by hand does not change that"
            )
        pipeline = load_pipeline(self.pipeline, overrides=night.request.overrides)
        return night, approvers.named(pipeline) if self.step == "promote" else pipeline

    def _decided(self, context: Any, night: Night) -> Night | None:
        found = kept.decided(connected().store, context, night)
        if found and found.request != request(
            self.pipeline, context["params"], context["dag_run"].conf, context["dag_run"]
        ):
            raise AirflowFailException("what was judged is not what this run asks for; clear the whole run")
        return found

    def run(self, night: Night, pipeline: Pipeline, context: Any) -> Night:
        """Run the step with the services that the environment and Airflow's connections name."""
        from ratchet.steps.night import run_step  # noqa: PLC0415

        services = connected()
        if self.step == "promote" and not (night.approve and night.approve.required):  # nobody was asked: rightly so?
            night = run_step("approve", night, pipeline, services, self.log.info)
        if self.step == "train" and night.tune is None:  # its task is an empty one; what this run alone asks for counts
            night = run_step("tune", night, pipeline, services, self.log.info)
        if not night.ended:
            night = run_step(self.step, night, pipeline, services, self.log.info)
        if self.step == "gate" and night.gate:
            kept.keep(services.store, context, "gate", night)
        return night

    def conclude(self, context: Any, night: Night) -> None:
        """Turn how the step ended into the task's state."""
        from ratchet.steps.night import goes_on  # noqa: PLC0415

        if night.ended:
            words = f"{night.ended.outcome.upper()}, {night.ended.reason}: {night.ended.detail}"
            if night.ended.outcome == "skipped":
                raise AirflowSkipException(words)
            raise AirflowFailException(words)
        if self.step == "gate" and not goes_on(night):
            raise DownstreamTasksSkipped(tasks=["approve", "promote"])
        if self.step == "promote":
            self._announce(context, night)
        if (
            self.step == "score"
            and night.score
            and night.score.rolled_back
            and not was_cleared(context["ti"], self.retries)
        ):
            champion = night.score.champion
            assert champion, "somebody serves after a rollback"
            told = news(self.pipeline, champion, night.score.reign)
            context["outlet_events"][ANY_CHAMPION].add(champion_asset(self.pipeline), extra=told)
        if self.step == "score" and night.score:
            self._ask_for_retrain(context, night.score)

    def _ask_for_retrain(self, context: Any, scored: ScoreResult) -> None:
        """Tell the DAGs that wait for the data to move, once an episode as a person is told of it."""
        told = any(alert.kind == "drift" for alert in scored.alerts)
        if self.retrain and told and scored.drift and not was_cleared(context["ti"], self.retries):
            moved = drifted(self.pipeline, scored.drift)
            context["outlet_events"][ANY_DRIFT].add(drift_asset(self.pipeline), extra=moved)

    def _announce(self, context: Any, night: Night) -> None:
        """Tell the DAGs that wait for a new champion, or skip where this run has made none."""
        made = night.promote
        if not (made and made.serves):
            raise AirflowSkipException(made.detail if made else "not promoted")
        if not made.appended and not tried_before(context["ti"], self.retries):  # told by the attempt that made it
            raise AirflowSkipException(f"nothing has changed: {made.detail}")
        if self.champion is not None:
            versions = (night.gate and night.gate.candidate, night.register_ and night.register_.version)
            for champion in (v for v in versions if v and v.version == made.version):
                context["outlet_events"][self.champion].extra = news(self.pipeline, champion, made.entry)


class ReportTask(StepTask):
    """The last task: it always runs, tells the night, and does not decide how the run came out."""

    ui_color = "#f3f0e6"

    def execute(self, context: Any) -> None:
        """Write the page and the note, or at least the note."""
        from ratchet.steps.report import headline  # noqa: PLC0415

        run, night, of_segments = context["dag_run"], so_far(context), ""
        if night is None:
            night = _never_begun(self.pipeline, context)
        try:
            pipeline = _pipeline_in_any_case(night.request)
            of_segments = _of_segments(context) if pipeline.spec.segments else ""
            night = self.run(night, pipeline, context)
            self.left_behind = addresses(self.step, night)
        finally:
            notes.write(run.dag_id, run.run_id, f"{headline(night)}{of_segments}", self.log.info)


class NobodyAsked(BaseOperator):  # type: ignore[misc, unused-ignore]
    """A task with nothing to do, such as approve where the spec asks for nobody: the scheduler passes over it without starting anything."""

    inherits_from_empty_operator = True
    ui_color = "#ffffff"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.params = ParamsDict()

    def execute(self, context: Any) -> None:
        """Do nothing."""


def _of_segments(context: Any) -> str:
    """Return what the run's note says of the segments, beside the night of all rows."""
    from ratchet.orchestration.segments import told  # noqa: PLC0415  only where there are some

    said = told(context)
    return f". {said}" if said else ""


def hand_on(context: Any, night: Night) -> None:
    """Leave the night for the next task."""
    context["ti"].xcom_push(key=NIGHT, value=night.model_dump(mode="json"))


def handed_on(context: Any, *tasks: StepName) -> Night | None:
    """Take the night from the first of these tasks that has left one."""
    for task in tasks:
        found = context["ti"].xcom_pull(task_ids=task, key=NIGHT)
        if found is not None:
            return Night.model_validate(found)
    return None


def so_far(context: Any) -> Night | None:
    """Return the newest night of this attempt at a run.

    The tasks' states lead, for what a task left behind in an earlier attempt lies there still.
    """
    ti = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    done = [step for step in STEPS[:-1] if states.get(step) == "success"]
    stopped = next((step for step in STEPS[:-1] if states.get(step) != "success"), None)
    night = handed_on(context, *reversed(done[: STEPS.index(stopped)] if stopped else done))
    if stopped is None or (night and (night.ended or (night.approve and not night.approve.approved))):
        return night
    if stopped == "approve" and states[stopped] == "skipped":  # by the gate
        return night
    last = handed_on(context, stopped) if states.get(stopped) in {"failed", "skipped"} else None
    if last and (last.ended or last.promote):
        return last
    return night and night.model_copy(update={"ended": _unexplained(stopped)})


def _begin(name: str, context: Any) -> tuple[Night, Pipeline]:
    from ratchet.steps.night import begin, failed  # noqa: PLC0415

    run = context["dag_run"]
    asked = request(name, context["params"], run.conf, run)
    try:
        pipeline = load_pipeline(name, overrides=asked.overrides)
        check_override(asked, pipeline)
    except UsageError as exc:
        hand_on(context, failed(begin(asked, load_pipeline(name)), "snapshot", exc))
        raise
    return begin(asked, pipeline), pipeline


def _never_begun(name: str, context: Any) -> Night:
    """Return the night of a run whose first task could not even read what was asked for."""
    from ratchet.steps.night import begin, failed  # noqa: PLC0415

    run, params = context["dag_run"], context["params"]
    try:
        asked = request(name, params, run.conf, run)
    except UsageError as exc:
        asked = request(name, {**params, "cutoff": None}, {}, run)
        return failed(begin(asked, load_pipeline(name)), "snapshot", exc)
    ti = context["ti"]
    waited = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {}).get(WAIT)
    stopped = WAIT if waited not in {None, "success"} else "snapshot"
    return begin(asked, load_pipeline(name)).model_copy(update={"ended": _unexplained("snapshot", stopped)})


def _pipeline_in_any_case(asked: NightRequest) -> Pipeline:
    """Return the pipeline as the night had it, or, where that is why the night has failed, as it is."""
    try:
        return load_pipeline(asked.pipeline, overrides=asked.overrides)
    except UsageError:
        return load_pipeline(asked.pipeline)


def _unexplained(step: StepName, task: str = "") -> Ended:
    return Ended(
        outcome="failed",
        step=step,
        reason="Stopped",
        detail=f"{task or step} ended without a word (killed, timed out or marked by hand); see its log",
    )


def connected() -> Services:
    """Return the services that the environment and Airflow's connections name."""
    from ratchet.wiring import services  # noqa: PLC0415

    connections.use(connections.environment())
    return services()


def words(error: BaseException) -> str:
    """Say what went wrong: our errors do so themselves."""
    return str(error) if isinstance(error, RatchetError) else f"{type(error).__name__}: {error}"
