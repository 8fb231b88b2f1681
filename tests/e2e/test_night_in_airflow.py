"""Nights through a real Airflow, on real flights: a promotion, a backfill, a dry run, too little data, and bad data."""

from __future__ import annotations

import os
import time
from datetime import date

import pytest
from running import LAST
from running import NIGHTLY as DAG

from ratchet.domain.night import STEPS

BEFORE = STEPS[:-1]


@pytest.fixture(scope="module")
def promoted(airflow):
    """The first night, asked for by hand."""
    return airflow.finished(airflow.trigger(cutoff="2013-04-08", reason="the first night"))


@pytest.fixture(scope="module")
def replayed(airflow, promoted):
    """Two nights by a backfill, oldest first."""
    backfill = airflow.api.backfill(DAG, date(2013, 4, 9), date(2013, 4, 10))
    end = time.monotonic() + 600
    runs = []
    while len(runs) < 2:
        assert time.monotonic() < end
        time.sleep(0.5)
        runs = [run for run in airflow.api.runs(DAG) if run["run_type"] == "backfill"]
    assert backfill
    return [airflow.finished(run["dag_run_id"]) for run in sorted(runs, key=lambda run: run["logical_date"])]


def test_first_night_promotes(promoted):
    """Every task is green, and the run's note says what serves now."""
    assert promoted["state"] == "success"
    assert promoted["tasks"] == dict.fromkeys(STEPS, "success")
    assert promoted["note"].startswith("PROMOTED v1")
    assert promoted["triggering_user_name"] == "admin"


def test_backfill_runs_past_nights(airflow, replayed):
    """Each date's run is the night of that cutoff; the gate decides, and the grid shows how."""
    for run, cutoff in zip(replayed, ("2013-04-09", "2013-04-10"), strict=True):
        assert run["state"] == "success"
        assert f"/{cutoff}/" in airflow.link(run["dag_run_id"], "report", "Report")
        last = "success" if run["note"].startswith("PROMOTED") else "skipped"
        assert run["tasks"] == {**dict.fromkeys(STEPS, "success"), "approve": last, "promote": last}
        assert run["note"].split()[0] in {"PROMOTED", "REFUSED", "UNDECIDED"}


def test_only_promotions_are_announced(airflow, promoted, replayed):
    """The champion's asset has one event for each promotion, with what a consumer needs."""
    found = airflow.news(DAG)
    notes = {run["dag_run_id"]: run["note"] for run in (promoted, *replayed)}
    assert [event["source_run_id"] for event in found] == [
        run for run, note in notes.items() if note.startswith("PROMOTED")
    ]
    extra = found[0]["extra"]
    assert (extra["version"], extra["cutoff"]) == (1, "2013-04-08")
    assert set(extra) == {"pipeline", "version", "run_key", "cutoff", "artifact_digest", "entry"}


def test_dry_run_promotes_nothing(airflow, replayed):
    """A dry run is decided and reported, and promote is skipped."""
    before = airflow.store.get("ledger/flight_delay/00000001.json")
    run = airflow.finished(airflow.trigger(cutoff="2013-04-11", dry_run=True))
    assert (run["state"], run["tasks"]["promote"], run["tasks"]["report"]) == ("success", "skipped", "success")
    assert "[dry run]" in run["note"]
    assert airflow.store.get("ledger/flight_delay/00000001.json") == before


def test_too_little_data_skips_the_night(airflow):
    """From the task that found too little on, everything is skipped; the report is there, and the run is no failure."""
    run = airflow.finished(airflow.trigger(cutoff="2013-01-20"))
    assert run["state"] == "success"
    assert run["tasks"] == {**dict.fromkeys(STEPS, "skipped"), "report": "success"}
    assert run["note"].startswith("SKIPPED: too_few_partitions")


def test_bad_data_fails_the_run_once(airflow):
    """A broken file fails the run visibly, without retries, with the reason in the note."""
    run = airflow.finished(airflow.trigger(cutoff=str(LAST)))
    red = next(step for step in STEPS if run["tasks"][step] == "failed")
    assert run["state"] == "failed"
    after = BEFORE[BEFORE.index(red) + 1 :]
    assert {run["tasks"][step] for step in after} == {"upstream_failed"}
    assert run["tasks"]["report"] == "success"
    assert run["note"].startswith("REJECTED: corrupt")
    tries = {task["task_id"]: task["try_number"] for task in airflow.api.tasks(DAG, run["dag_run_id"])}
    assert tries[red] == 1


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"cutoff": "2013-02-30"}, "is not a 'date'"),
        ({"overrides": {"window.days": "many"}}, "is not of type 'integer'"),
    ],
)
def test_bad_values_are_refused_when_triggering(airflow, conf, words):
    """The form's checks hold for the API as well."""
    from ratchet.errors import ServiceRefused

    with pytest.raises(ServiceRefused, match=words):
        airflow.trigger(**conf)


def test_what_no_form_can_know_fails_at_once(airflow):
    """An override that does not fit the spec is refused by the first task, in the spec's words."""
    run = airflow.finished(airflow.trigger(cutoff="2013-04-08", overrides={"window.days": 10}))
    assert (run["state"], run["tasks"]["snapshot"], run["tasks"]["report"]) == ("failed", "failed", "success")
    assert "leave nothing of 10 days to fit on" in run["note"]


@pytest.mark.parametrize(("task", "button"), [("report", "Report"), ("validate", "Data Docs")])
def test_pages_are_behind_the_login(airflow, promoted, task, button):
    """A viewer may read what a night left behind; nobody else may, and it can run no script."""
    url = airflow.link(promoted["dag_run_id"], task, button)
    assert airflow.get(url).status_code == 401
    page = airflow.get(url, "viewer")
    assert page.status_code == 200
    assert "<html" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "sandbox" in page.headers["content-security-policy"]


@pytest.mark.parametrize(("task", "button"), [("train", "MLflow run"), ("register", "Model version")])
def test_links_lead_to_mlflow(airflow, promoted, task, button):
    """The buttons of train and register lead to the run and to the version."""
    url = airflow.link(promoted["dag_run_id"], task, button)
    assert url.startswith(os.environ["MLFLOW_TRACKING_URI"])
    assert airflow.get(url).status_code == 200


def test_overview_names_the_champion(airflow, promoted):
    """One page says who serves and how the last nights came out."""
    page = airflow.get(f"{airflow.url}/ratchet/", "viewer")
    assert page.status_code == 200
    assert "Champion: version" in page.text
    assert airflow.get(f"{airflow.url}/ratchet/").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "reports/flight_delay/2013-04-08/nothing.html",
        "reports/flight_delay/2013-04-08/..%2F..%2Fledger.html",
        "reports/flight_delay/tomorrow/a.html",
        "reports/..%2Fx/2013-04-08/a.html",
        "pipelines/demo_feed",
    ],
)
def test_pages_that_are_not_there(airflow, path):
    """A key that no night has written is answered in words, and never reaches another part of the store."""
    page = airflow.get(f"{airflow.url}/ratchet/{path}", "viewer")
    assert page.status_code == 404
    assert "<h1>Not found</h1>" in page.text
