"""approve: who is asked, when, about what, and what an answer is worth."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskAwaitingInput
from stand_in import Ti, make_night

from ratchet.errors import SpecInvalid
from ratchet.spec import Approval


@pytest.fixture(scope="module")
def approval():
    from ratchet.orchestration import approval

    return approval


@pytest.fixture
def why():
    """Why the spec asks for a person tonight; a test may empty it."""
    return ["there is no champion yet"]


@pytest.fixture
def asked(approval, monkeypatch, services, why):
    """What Airflow was asked to show; the task runs on stores in memory."""
    put = []
    monkeypatch.setattr(approval, "connected", lambda: services)
    monkeypatch.setattr("ratchet.steps.approve.asks", lambda _pipeline, _night: tuple(why))
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **kwargs: put.append(kwargs)
    )
    monkeypatch.setattr(approval, "get_hitl_detail_content_detail", lambda _ti: pytest.fail("nobody was asked before"))
    return put


@pytest.fixture
def task(approval, asked):
    return approval.PersonApproves(
        pipeline="flight_delay",
        approval=Approval(when=("always",), approvers=("uma",), timeout_hours=3.0),
        params=approval.form(),
        retries=2,
    )


@pytest.fixture
def given(context, keep):
    """A run whose gate has judged."""
    judged = make_night("PASS")
    return keep(context(Ti(gate=judged)), gate=judged)


def answer(*options, user="uma", reason="looked at it"):
    by = {"id": user, "name": user} if user else None
    return {
        "chosen_options": list(options),
        "params_input": {"reason": reason},
        "responded_at": datetime.now(UTC),
        "responded_by_user": by,
    }


def test_asks_a_person(task, given, asked, services, monkeypatch):
    """The request says what is to be decided, on what grounds, by whom and until when."""
    monkeypatch.setattr(
        services.registry, "version_url", lambda _name, version: f"http://mlflow/{version}", raising=False
    )
    with pytest.raises(TaskAwaitingInput):
        task.execute(given)
    [request] = asked
    for words in (
        "PASS: version 7 (cutoff 2013-06-01) instead of no champion yet",
        "- there is no champion yet",
        "| auc ≥ 0.62 | PASS | 0.7 |  | 0.7000 over 900 rows |",
        "**uma** may answer until",
        "No answer means no",
        "/ratchet/pipelines/flight_delay",
        "http://mlflow/7",
    ):
        assert words in request["body"]
    assert request["assigned_users"] == [{"id": "uma", "name": "uma"}]
    assert request["defaults"] == ["Reject"]


def test_asks_nobody_where_nothing_asks_for_a_person(task, given, asked, why):
    """On other nights approve passes at once, and says so."""
    why.clear()
    task.execute(given)
    assert not asked
    assert given["ti"].pushed.approve.model_dump(include={"required", "approved"}) == {
        "required": False,
        "approved": True,
    }


def test_asks_nobody_in_a_dry_run(task, context, keep, asked):
    """A dry run changes nothing, so there is nothing to approve."""
    judged = make_night("PASS", dry_run=True)
    task.execute(keep(context(Ti(gate=judged)), gate=judged))
    assert not asked


def test_nothing_judged_asks_nobody(task, context):
    """A gate that was marked as done by hand has left no verdict to approve."""
    with pytest.raises(AirflowFailException, match="clear the whole run"):
        task.execute(context(Ti(gate=make_night("PASS"))))


def test_yes_goes_on_with_who_and_why(approval, task, given, services):
    """The answer lies where promote looks for it."""
    task.execute_complete(given, answer("Approve"))
    found = approval.kept.decided(services.store, given, make_night("PASS")).approve
    assert (found.required, found.approved, found.who, found.reason) == (True, True, "uma", "looked at it")
    assert found.why == ("there is no champion yet",)


@pytest.mark.parametrize(
    ("said", "recorded"),
    [
        (answer("Reject", reason="holidays"), ("uma", "holidays")),
        (answer("Reject", reason=None), ("uma", "refused")),
        (answer("Reject", user=None, reason=None), ("", "nobody answered in time")),
        (answer("Approve", user=None), ("", "nobody answered in time")),
        (answer("Approve", user="mallory"), ("mallory", "mallory may not answer; the spec names uma")),
        (answer(), ("uma", "looked at it")),
    ],
)
def test_anything_else_is_a_no(approval, task, given, services, said, recorded):
    """A no, silence, and a yes of somebody whom the spec does not name skip the promotion and are recorded as a refusal."""
    with pytest.raises(DownstreamTasksSkipped) as caught:
        task.execute_complete(given, said)
    assert caught.value.tasks == ["promote"]
    found = approval.kept.decided(services.store, given, make_night("PASS")).approve
    assert (found.required, found.approved, found.who, found.reason) == (True, False, *recorded)


def test_answer_survives_a_crash(approval, task, given, asked, monkeypatch):
    """An attempt after the one that was answered takes that answer; nobody is asked twice."""
    given["ti"].try_number = 2
    found = SimpleNamespace(
        response_received=True,
        responded_by_user=SimpleNamespace(id="uma", name="uma"),
        chosen_options=["Approve"],
        params_input={"reason": "fine"},
    )
    monkeypatch.setattr(approval, "get_hitl_detail_content_detail", lambda _ti: found)
    task.execute(given)
    assert not asked
    assert given["ti"].pushed.approve.approved


def test_cleared_task_asks_again(task, given, asked):
    """Who clears approve gets another question, never the answer to the last one."""
    given["ti"].try_number, given["ti"].max_tries = 2, 3
    with pytest.raises(TaskAwaitingInput):
        task.execute(given)
    assert len(asked) == 1


def test_roles_stand_for_their_users(monkeypatch):
    """A role is each user who has it, by Airflow's simple auth manager."""
    from ratchet.orchestration import approvers

    known = {"auth_manager": "airflow.….SimpleAuthManager", "simple_auth_manager_users": "ann:op, bob:viewer,cid:op"}
    monkeypatch.setattr(approvers.conf, "get", lambda _section, key, **_: known[key])
    assert approvers.users(("uma", "role:op", "ann"), "p.yaml") == ("uma", "ann", "cid")
    with pytest.raises(SpecInvalid, match=r"p\.yaml: approval\.approvers: 'role:boss' stands for nobody"):
        approvers.users(("role:boss",), "p.yaml")
    known["auth_manager"] = "FabAuthManager"
    with pytest.raises(SpecInvalid, match="name the users"):
        approvers.users(("role:op",), "p.yaml")
