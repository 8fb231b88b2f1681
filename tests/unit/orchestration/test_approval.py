"""approve: who is asked, when, about what, and what an answer is worth."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskAwaitingInput
from stand_in import Ti, make_night

from ratchet.domain.promotion_rules import Approval
from ratchet.errors import SpecInvalid


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
    monkeypatch.setattr(approval.notes, "api", lambda: pytest.fail("nobody was asked before"))
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
        "PASS: version 7 (cutoff 2013-06-01) as the first champion",
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


def test_reason_of_the_run_is_not_the_reason_of_the_answer(task, given, asked):
    """Airflow fills the form of a task with the run's parameters of the same name; who answers says why in their own words."""
    task.params["reason"] = "the first night"
    with pytest.raises(TaskAwaitingInput):
        task.execute(given)
    assert asked[0]["params"]["reason"]["value"] is None


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


def again(given):
    """Let the run's task be tried again, as Airflow does after a crash."""
    given["ti"].try_number += 1
    return given


@pytest.fixture
def airflow(approval, monkeypatch):
    """What Airflow's API says of the question."""
    found = {"response_received": False}
    said = SimpleNamespace(request=lambda _method, path: {**found, "path": path})
    monkeypatch.setattr(approval.notes, "api", lambda: said)
    return found


def test_answer_survives_an_attempt_that_airflow_took_for_failed(task, given, asked, airflow):
    """An answer that came within seconds goes to the next attempt; nobody is asked twice."""
    with pytest.raises(TaskAwaitingInput):
        task.execute(given)
    airflow.update(answer("Approve"), response_received=True)
    task.execute(again(given))
    assert len(asked) == 1
    assert given["ti"].pushed.approve.model_dump(include={"approved", "who", "reason"}) == {
        "approved": True,
        "who": "uma",
        "reason": "looked at it",
    }


def test_answer_survives_a_crash_after_it_was_recorded(task, given, asked):
    """Where the store has the answer already, Airflow is not asked for it."""
    with pytest.raises(DownstreamTasksSkipped):
        task.execute_complete(given, answer("Reject", reason="holidays"))
    with pytest.raises(DownstreamTasksSkipped):
        task.execute(again(given))
    assert not asked
    assert given["ti"].pushed.approve.reason == "holidays"


def test_crash_before_an_answer_asks_again(task, given, asked, airflow):
    """A question that nobody has answered is put again."""
    for run in (given, again(given)):
        with pytest.raises(TaskAwaitingInput):
            task.execute(run)
    assert len(asked) == 2


def test_crash_before_the_question_does_not_take_an_older_answer(task, given, asked, airflow):
    """What was answered before the task was cleared is void, although Airflow still has it."""
    airflow.update(answer("Approve"), response_received=True)
    with pytest.raises(TaskAwaitingInput):
        task.execute(again(given))
    assert len(asked) == 1


def test_question_without_an_answer_is_a_no(approval, task, given, services):
    """Marking approve as done by hand while it waits leaves promote with a question that nobody has answered."""
    with pytest.raises(TaskAwaitingInput):
        task.execute(given)
    found = approval.kept.decided(services.store, given, make_night("PASS")).approve
    assert (found.required, found.approved, found.reason) == (True, False, "nobody has answered yet")


def test_cleared_task_asks_again(approval, task, given, asked, services):
    """Who clears approve gets another question, never the answer to the last one, which is void from then on."""
    task.execute_complete(given, answer("Approve"))
    given["ti"].try_number, given["ti"].max_tries = 2, 3
    with pytest.raises(TaskAwaitingInput):
        task.execute(given)
    assert len(asked) == 1
    assert not approval.kept.decided(services.store, given, make_night("PASS")).approve.approved


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
