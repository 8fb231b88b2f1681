"""wait: the task before the snapshot, where the spec says how a partition shows that it is complete. It waits without a process.

Between two looks the task is deferred: Airflow's triggerer holds nothing of it but a time. Each look is made by a worker, because
a worker has the credentials of the object store; the triggerer, which all DAGs share, needs none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import BaseOperator
from airflow.sdk.definitions.param import ParamsDict

from ratchet.errors import RatchetError
from ratchet.home import load_pipeline
from ratchet.orchestration import notes
from ratchet.orchestration.params import request
from ratchet.orchestration.tasks import WAIT, connected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.steps.completion import Wait


class WaitTask(BaseOperator):  # type: ignore[misc, unused-ignore]
    """Look whether the night's data is complete; where it is not, look again later, until the hours of the spec are over.

    It decides nothing. When its time is over, or when it cannot even look, the snapshot says in the night's own words what is wrong.
    """

    template_fields: Sequence[str] = ()
    ui_color = "#e6e0f5"

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        kwargs.setdefault("execution_timeout", timedelta(minutes=15))  # of one look
        super().__init__(task_id=WAIT, do_xcom_push=False, **kwargs)
        self.params = ParamsDict()
        self.pipeline = pipeline

    def execute(self, context: Any) -> None:
        """Look for the first time."""
        self.look_again(context)

    def look_again(self, context: Any, event: Any = None, said: str = "") -> None:  # noqa: ARG002  Airflow's signature
        """Look, and defer where something is missing that may still come.

        Args:
            context: Airflow's.
            event: of the trigger; it says no more than that the time has come.
            said: what the run's note says by now.
        """
        now = datetime.now(UTC)
        try:
            found = self._look(context, now)
        except RatchetError as exc:
            self.log.info("the snapshot will tell: %s", exc)
            return
        self.log.info(found.words)
        if found.until is None:
            return
        run = context["dag_run"]
        if found.words != said:
            notes.write(run.dag_id, run.run_id, f"WAITING: {found.words}", self.log.info)
        moment = max(now + timedelta(seconds=1), min(now + timedelta(seconds=found.pause), found.until))
        self.defer(trigger=DateTimeTrigger(moment=moment), method_name="look_again", kwargs={"said": found.words})

    def _look(self, context: Any, now: datetime) -> Wait:
        from ratchet.steps.completion import look  # noqa: PLC0415
        from ratchet.steps.context import Context  # noqa: PLC0415
        from ratchet.steps.night import begin  # noqa: PLC0415

        run = context["dag_run"]
        asked = request(self.pipeline, context["params"], run.conf, run)
        pipeline = load_pipeline(self.pipeline, overrides=asked.overrides)
        return look(Context(pipeline, begin(asked, pipeline), connected(), self.log.info), run.run_after, now)
