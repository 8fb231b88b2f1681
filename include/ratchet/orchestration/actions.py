"""What a person asks of a champion by a form in Airflow: one DAG an action, each with what this action needs and no more.

Airflow's permissions are per DAG, so who may roll back, freeze or thaw is decided there: whoever may trigger the DAG.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import DAG, BaseOperator, Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowFailException

from ratchet.errors import UsageError
from ratchet.home import default_home, load_pipeline, pipeline_names
from ratchet.orchestration import notes, retries
from ratchet.orchestration.events import ANY_CHAMPION, champion_asset, news
from ratchet.orchestration.params import actor
from ratchet.orchestration.tasks import connected, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.steps.context import Services

Action = Literal["rollback", "freeze", "thaw"]

_ABOUT: dict[Action, str] = {
    "rollback": "Send a champion back to one that served before.",
    "freeze": "Let nobody be promoted until further notice.",
    "thaw": "Let promotions go on.",
}


def action_dag(action: Action, doc: str) -> DAG:
    """Return the DAG; ``doc`` is the stub's docstring."""
    with DAG(
        dag_id=action,
        description=_ABOUT[action],
        doc_md=doc,
        schedule=None,
        allowed_run_types=["manual"],
        is_paused_upon_creation=False,  # a switch that has to be found before it can be used is none
        catchup=False,
        dagrun_timeout=timedelta(minutes=20),
        params=form(action),
        tags={"ratchet", "champion"},
        default_args={
            "owner": "ratchet",
            "retries": retries.RETRIES,
            "retry_delay": timedelta(seconds=5),
            "retry_policy": retries.WeatherOnly(),
        },
    ) as dag:
        ActionTask(action=action, doc_md=_ABOUT[action], execution_timeout=timedelta(minutes=5))
    dag.fileloc = sys._getframe(1).f_code.co_filename  # noqa: SLF001  the stub, not this file, is the DAG's source
    return dag


def form(action: Action) -> dict[str, Param]:
    """Return what an action asks for."""
    names = list(pipeline_names(default_home()))
    found = {
        "pipeline": Param(type="string", enum=names, title="Pipeline", description="Whose champion."),
        "segment": Param(
            None,
            type=["null", "string"],
            maxLength=1000,
            title="Segment",
            description="Of a pipeline with segments: the value, or the end of the model's name. Empty: the pipeline's own champion.",
        ),
    }
    if action == "rollback":
        found["version"] = Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Version",
            description="The model version that shall serve: one that served before. Empty: the last champion that served before this one.",
        )
    if action == "freeze":
        found["until"] = Param(
            None,
            type=["null", "string"],
            format="date",
            title="Until",
            description="The last day, in UTC, on which nobody is promoted. Empty: until somebody thaws it.",
        )
    found["reason"] = Param(
        type="string",
        minLength=3,
        pattern=r"\S",
        maxLength=1000,
        title="Reason",
        description="Why. It is kept in the ledger with your name.",
    )
    return found


class ActionTask(BaseOperator):  # type: ignore[misc, unused-ignore]
    """One entry in a champion's ledger, asked for by a person."""

    template_fields: Sequence[str] = ()
    ui_color = "#fdeec9"

    def __init__(self, *, action: Action, **kwargs: Any) -> None:
        outlets = [ANY_CHAMPION] if action == "rollback" else []
        super().__init__(task_id=action, do_xcom_push=False, outlets=outlets, **kwargs)
        self.params = ParamsDict()  # those of the DAG are there anyhow
        self.action = action

    def execute(self, context: Any) -> None:
        """Do it, and say on the run what was done, or why not."""
        run = context["dag_run"]
        try:
            said = self._do(context)
        except Exception as exc:
            notes.write(run.dag_id, run.run_id, f"NOT DONE: {words(exc)}", self.log.info)
            if retries.can_pass(exc):
                raise
            raise AirflowFailException(words(exc)) from (None if isinstance(exc, UsageError) else exc)
        self.log.info("%s", said)
        notes.write(run.dag_id, run.run_id, said, self.log.info)

    def _do(self, context: Any) -> str:
        run, asked = context["dag_run"], context["params"]
        who = actor(run)
        if run.run_type != "manual" or not run.triggering_user_name:
            raise UsageError(f"only a person may ask for a {self.action}, by the form; this run was started by {who}")
        unknown = sorted(set(run.conf or {}) - set(form(self.action)))
        if unknown:
            raise UsageError(f"{unknown[0]!r} is no field of this form; there are: {', '.join(form(self.action))}")
        services = connected()
        name = _named(services, asked)
        before = len(services.ledger.entries(name))
        entry = _act(self.action, services, name, asked, who)
        new = entry.seq > before or retries.tried_before(context["ti"], self.retries)
        if self.action == "rollback" and entry.champion and new:
            champion = news(entry.pipeline, entry.champion, entry.seq)
            context["outlet_events"][ANY_CHAMPION].add(champion_asset(entry.pipeline), extra=champion)
        return _sentence(entry) if new else f"{_sentence(entry)} It was so before this run, which changed nothing."


def _named(services: Services, asked: Mapping[str, Any]) -> str:
    """Return whose champion is meant: the pipeline's, or a segment's."""
    from ratchet.steps.segments import resolve  # noqa: PLC0415

    pipeline, segment = str(asked["pipeline"]), asked.get("segment")
    return resolve(services, pipeline, segment) if segment else pipeline


def _act(action: Action, services: Any, name: str, asked: Mapping[str, Any], who: str) -> LedgerEntry:
    from ratchet.steps.freeze import freeze, thaw  # noqa: PLC0415
    from ratchet.steps.rollback import roll_back  # noqa: PLC0415

    reason = asked["reason"]
    if action == "rollback":
        return roll_back(services, load_pipeline(name), to=asked["version"], actor=who, reason=reason)
    if action == "freeze":
        until = date.fromisoformat(asked["until"]) if asked["until"] else None
        return freeze(services, name, actor=who, reason=reason, until=until)
    return thaw(services, name, actor=who, reason=reason)


def _sentence(entry: LedgerEntry) -> str:
    """Say in one line what is so now."""
    what = {
        "rollback": f"ROLLED BACK: version {entry.champion.version if entry.champion else '?'} serves {entry.pipeline}",
        "freeze": f"FROZEN: nobody is promoted in {entry.pipeline} {f'up to {entry.until}' if entry.until else 'until a thaw'}",
        "thaw": f"THAWED: promotions of {entry.pipeline} go on",
    }[entry.action]
    return f"{what} (ledger entry {entry.seq}, by {entry.actor}): {entry.reason.rstrip('.')}."
