"""A night that the tasks can hand on, and an Airflow that is a dictionary."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

from ratchet.domain.checks import Check, Outcome
from ratchet.domain.models import ModelVersion
from ratchet.domain.night import ApproveResult, GateResult, Night, NightRequest, PromoteResult, RegisterResult
from ratchet.domain.verdict import Verdict

CUTOFF = date(2013, 6, 1)


def make_night(verdict=None, promoted=None, approved=None, **request):
    """Return a night as far as the arguments say."""
    version = ModelVersion(
        version=7, run_key="key", mlflow_run_id="run", artifact_digest="a" * 64, seen_through=CUTOFF, cutoff=CUTOFF
    )
    check = Check(name="auc ≥ 0.62", outcome=Outcome(verdict or "PASS"), reason="0.7000 over 900 rows", value=0.7)
    smoke = Check(kind="smoke test", name="smoke test", outcome=Outcome.PASS, reason="the same predictions")
    gate = GateResult(
        verdict=Verdict(outcome=check.outcome, bootstrap=True, checks=(check, smoke)),
        candidate=version,
        action="bootstrap",
    )
    return Night(
        request=NightRequest(**{"pipeline": "flight_delay", "cutoff": CUTOFF, "actor": "alice", **request}),
        run_key="key",
        register_=RegisterResult(version=version, url="http://mlflow/v7", smoke=None),
        gate=gate if verdict else None,
        approve=None if approved is None else ApproveResult(required=True, approved=approved, reason="not tonight"),
        promote=None
        if promoted is None
        else PromoteResult(
            promoted=promoted,
            entry=1 if promoted else None,
            detail="superseded",
            version=7 if promoted else None,
            serves=promoted,
            appended=promoted,
        ),
    )


class Ti:
    """A task instance whose XComs and states are dictionaries."""

    dag_id, run_id, map_index, id = "flight_delay", "manual__1", -1, "ti"
    try_number, max_tries = 1, 2

    def __init__(self, states=None, **handed_on):
        self.states = states or {}
        self.xcoms = {task: night.model_dump(mode="json") for task, night in handed_on.items()}
        self.pushed = None

    def xcom_push(self, key, value):
        """Remember what a task hands on."""
        assert key == "night"
        self.pushed = Night.model_validate(value)

    def xcom_pull(self, task_ids, key):
        """Return what a task has handed on."""
        assert key == "night"
        return self.xcoms.get(task_ids)

    def get_task_states(self, dag_id, run_ids):
        """Return the states of this run's tasks."""
        return {self.run_id: self.states}


class Events(dict):
    """Outlet events, made when they are asked for."""

    def __missing__(self, asset):
        """Make the event of an asset."""
        self[asset] = SimpleNamespace(extra={})
        return self[asset]
