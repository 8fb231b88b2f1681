"""People stand in the way of a champion, or send it back, in a real Airflow; and nobody gets past them."""

from __future__ import annotations

import json

import pytest
from running import GUARDED

from ratchet.domain.layout import ledger
from ratchet.domain.ledger import champion_of
from ratchet.errors import ServiceRefused

FIRST, SECOND = "2013-04-08", "2013-04-09"


@pytest.fixture(scope="module")
def refused(airflow):
    """The first night, which the person who is named refuses."""
    run = airflow.trigger(GUARDED, cutoff=FIRST, reason="the first night")
    question = airflow.asked(run)
    airflow.answer(run, "Reject", "not before the holidays")
    return airflow.finished(run, GUARDED) | {"question": question}


def entries(airflow):
    return airflow.services.ledger.entries(GUARDED)


def test_question_says_what_is_to_be_decided(refused):
    """Why a person is asked, what was checked, who may answer and until when, and where to look."""
    body = refused["question"]["body"]
    for words in (
        "as the first champion",
        "it would be the first champion",
        "| auc ≥ 0.5 | PASS |",
        "**user** may answer until",
    ):
        assert words in body
    assert f"/ratchet/pipelines/{GUARDED}" in body
    assert [user["id"] for user in refused["question"]["assigned_users"]] == ["user"]
    assert refused["question"]["params"]["reason"]["value"] is None


def test_refusal_keeps_everything_as_it_was(airflow, refused):
    """The run is no failure, promote is skipped, and the record says who and why."""
    assert refused["state"] == "success"
    assert (refused["tasks"]["approve"], refused["tasks"]["promote"]) == ("success", "skipped")
    assert refused["note"].startswith("REFUSED v1")
    assert refused["note"].endswith("approval: not before the holidays")
    assert entries(airflow) == ()


def test_nobody_gets_past_a_refusal(airflow, refused):
    """Neither others, nor a task marked as done by hand, nor an edited XCom, nor a promote that is run again."""
    run, dag = refused["dag_run_id"], f"/dags/{GUARDED}"
    with pytest.raises(ServiceRefused, match="409"):
        airflow.answer(run, "Approve", "changed my mind")
    clear = {"dry_run": False, "dag_run_id": run, "only_failed": False, "reset_dag_runs": True}
    airflow.api.request(
        "POST", f"{dag}/clearTaskInstances", json=clear | {"task_ids": ["approve", "promote", "report"]}
    )
    airflow.asked(run)
    for user in ("admin", "op"):
        with pytest.raises(ServiceRefused, match="403"):
            airflow.answer(run, "Approve", "I am somebody", user)
    task = f"{dag}/dagRuns/{run}/taskInstances/approve"
    airflow.api.request("PATCH", task, json={"new_state": "success"})
    by_hand = airflow.finished(run, GUARDED)
    assert (by_hand["tasks"]["approve"], by_hand["tasks"]["promote"]) == ("success", "skipped")
    assert by_hand["note"].endswith("approval: nobody has answered yet")

    handed = airflow.api.request(
        "GET", f"{dag}/dagRuns/{run}/taskInstances/gate/xcomEntries/night", params={"deserialize": True}
    )
    night = handed["value"] if isinstance(handed["value"], dict) else json.loads(handed["value"])
    night["approve"] = {"required": True, "approved": True, "who": "user", "reason": "forged"}
    airflow.api.request("POST", f"{task}/xcomEntries", json={"key": "night", "value": night, "map_index": -1})
    airflow.api.request("POST", f"{dag}/clearTaskInstances", json=clear | {"task_ids": ["promote", "report"]})
    forged = airflow.finished(run, GUARDED)
    assert forged["tasks"]["promote"] == "skipped"
    assert entries(airflow) == ()


def test_no_answer_means_no(airflow, refused):
    """When the time is over, the night is refused; nobody's name stands for it."""
    run = airflow.finished(airflow.trigger(GUARDED, cutoff=FIRST), GUARDED)
    assert run["tasks"]["promote"] == "skipped"
    assert run["note"].endswith("approval: nobody answered in time")
    assert entries(airflow) == ()


@pytest.fixture(scope="module")
def promoted(airflow, refused):
    """The first night again, which the person approves."""
    run = airflow.trigger(GUARDED, cutoff=FIRST, reason="after the holidays")
    airflow.asked(run)
    airflow.answer(run, "Approve", "looked at the slices")
    return airflow.finished(run, GUARDED)


def test_approval_goes_to_the_ledger(airflow, promoted):
    """The entry names who asked, who approved and why it was tried."""
    assert promoted["note"].startswith("PROMOTED v1")
    [entry] = entries(airflow)
    assert (entry.action, entry.actor, entry.approved_by, entry.reason) == (
        "bootstrap",
        "admin",
        "user",
        "after the holidays",
    )
    [event] = airflow.news(GUARDED)
    assert (event["extra"]["version"], event["extra"]["entry"]) == (1, 1)


def test_champion_is_announced_once(airflow, promoted):
    """Running the promotion again changes nothing, and tells nobody anew."""
    run = promoted["dag_run_id"]
    clear = {"dry_run": False, "dag_run_id": run, "only_failed": False, "reset_dag_runs": True}
    airflow.api.request("POST", f"/dags/{GUARDED}/clearTaskInstances", json=clear | {"task_ids": ["promote", "report"]})
    again = airflow.finished(run, GUARDED)
    assert again["tasks"]["promote"] == "skipped"
    assert again["note"].startswith("PROMOTED v1")
    assert len(airflow.news(GUARDED)) == 1


@pytest.mark.parametrize(
    ("user", "reason", "words"), [("admin", "I know better", "admin may not override"), ("op", " ", "needs a reason")]
)
def test_override_is_refused_at_once(airflow, promoted, user, reason, words):
    """Who may not override is told by the first task, before anything is computed; so is who does not say why."""
    run = airflow.finished(airflow.trigger(GUARDED, user, cutoff=SECOND, override=True, reason=reason), GUARDED)
    assert (run["state"], run["tasks"]["snapshot"]) == ("failed", "failed")
    assert words in run["note"]


@pytest.fixture(scope="module")
def overridden(airflow, promoted):
    """The second night, which cannot be decided, promoted by one who may and approved by another."""
    run = airflow.trigger(GUARDED, "op", cutoff=SECOND, override=True, reason="the season has changed")
    question = airflow.asked(run)
    airflow.answer(run, "Approve", "agreed")
    return airflow.finished(run, GUARDED) | {"question": question}


def test_override_promotes_what_is_undecided(airflow, overridden):
    """The question says that it is an override; the ledger says so too, with both names."""
    assert "### UNDECIDED: version 2" in overridden["question"]["body"]
    assert "op overrides an UNDECIDED: the season has changed" in overridden["question"]["body"]
    entry = entries(airflow)[-1]
    assert (entry.action, entry.actor, entry.approved_by) == ("override", "op", "user")
    assert entry.champion.version == 2


def test_champion_is_sent_back_by_a_form(airflow, overridden):
    """Version 1 serves again, in the name of who triggered the DAG; who waits for a new champion hears of it."""
    run = airflow.finished(airflow.trigger("rollback", "op", pipeline=GUARDED, reason="labels were late"), "rollback")
    assert run["state"] == "success", run["note"]
    assert run["note"].startswith(f"ROLLED BACK: version 1 serves {GUARDED} (ledger entry 3, by op)")
    entry = entries(airflow)[-1]
    assert (entry.action, entry.actor, entry.champion.version) == ("rollback", "op", 1)
    assert airflow.services.registry.alias(GUARDED, "champion") == 1
    [event] = airflow.news("rollback")
    assert (event["name"], event["extra"]["version"]) == (f"{GUARDED}.champion", 1)


def test_champion_is_frozen_and_thawed_by_forms(airflow, overridden):
    """Both are entries of the ledger, which leave the champion as it is."""
    before = champion_of(entries(airflow))
    frozen = airflow.finished(airflow.trigger("freeze", pipeline=GUARDED, until="2999-01-01", reason="audit"), "freeze")
    thawed = airflow.finished(airflow.trigger("thaw", pipeline=GUARDED, reason="audit is over"), "thaw")
    assert frozen["note"].startswith(f"FROZEN: nobody is promoted in {GUARDED} up to 2999-01-01")
    assert thawed["note"].startswith("THAWED")
    assert [entry.action for entry in entries(airflow)[-2:]] == ["freeze", "thaw"]
    assert champion_of(entries(airflow)) == before


def test_rollback_that_cannot_be_done_says_why(airflow, overridden):
    """The run fails at once, its note names the versions that there are, and the ledger is as it was."""
    before = airflow.store.get(f"{ledger(GUARDED)}00000001.json"), len(entries(airflow))
    run = airflow.finished(airflow.trigger("rollback", pipeline=GUARDED, version=99, reason="a slip"), "rollback")
    assert run["state"] == "failed"
    assert "version 99 never served" in run["note"]
    assert before == (airflow.store.get(f"{ledger(GUARDED)}00000001.json"), len(entries(airflow)))


@pytest.mark.parametrize(
    ("user", "conf", "words"),
    [
        ("viewer", {"pipeline": GUARDED, "reason": "let me try"}, "403"),
        ("op", {"pipeline": "nothing", "reason": "let me try"}, "is not one of"),
        ("op", {"pipeline": GUARDED}, "reason"),
    ],
)
def test_form_is_checked_and_takes_a_right(airflow, user, conf, words):
    """A viewer cannot act, and what the form needs must be there."""
    with pytest.raises(ServiceRefused, match=words):
        airflow.trigger("rollback", user, **conf)


def test_nothing_but_a_person_rolls_back(airflow):
    """Airflow refuses a backfill of the DAG."""
    body = {
        "dag_id": "rollback",
        "from_date": "2026-01-01T00:00:00Z",
        "to_date": "2026-01-02T00:00:00Z",
        "max_active_runs": 1,
    }
    with pytest.raises(ServiceRefused):
        airflow.api.request("POST", "/backfills", json=body)


def test_watchdog_looks(airflow, promoted):
    """It is on without being switched on, and tells of the nights that are overdue; the tests' are long past."""
    run = airflow.finished(airflow.trigger("watchdog"), "watchdog")
    assert run["state"] in {"success", "failed"}
    assert run["note"]
