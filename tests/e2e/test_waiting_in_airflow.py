"""A night waits in a real Airflow without a worker, goes on with the marker, and is rejected by name where none comes."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import pytest
from running import PATIENT

from ratchet.domain.night import STEPS

CUTOFF = date(2013, 4, 8)
DAY = timedelta(days=1)


def mark(airflow, day):
    """Write a day's marker."""
    airflow.store.put(f"s3://lake/flights/dt={day}/_SUCCESS", b"", "")


def waits(airflow, run):
    """Wait until a run waits; return its note, which says for what."""
    end = time.monotonic() + 600
    while airflow.states(run, PATIENT)["wait"] != "deferred":
        assert time.monotonic() < end, airflow.states(run, PATIENT)
        time.sleep(0.2)
    while not (note := airflow.api.request("GET", f"/dags/{PATIENT}/dagRuns/{run}")["note"]):
        assert time.monotonic() < end, "no note says what is awaited"
        time.sleep(0.2)
    return note


@pytest.fixture(scope="module")
def awaited(airflow):
    """A night whose newest day gets its marker only once it waits."""
    for i in range(1, 10):
        mark(airflow, CUTOFF - i * DAY)
    run = airflow.trigger(PATIENT, cutoff=str(CUTOFF))
    note = waits(airflow, run)
    mark(airflow, CUTOFF)
    return airflow.finished(run, PATIENT) | {"waited": note}


def test_a_night_waits_for_its_newest_day(awaited):
    """The note says for what and until when; with the marker every task runs, once."""
    assert awaited["waited"].startswith("WAITING: waiting until ")
    assert f"s3://lake/flights/dt={CUTOFF}/) has no marker _SUCCESS" in awaited["waited"]
    assert awaited["tasks"] == {"wait": "success", **dict.fromkeys(STEPS, "success")}
    assert awaited["note"].startswith("PROMOTED v1")


def test_a_night_whose_time_is_over_is_rejected(airflow, awaited):
    """The hours count from when the night was due: an hour late, it waits no longer, and the snapshot says what is missing."""
    due = datetime.now(UTC) - timedelta(hours=1)
    body = {"logical_date": None, "run_after": due.isoformat(), "conf": {"cutoff": str(CUTOFF + DAY)}}
    made = airflow.api.request("POST", f"/dags/{PATIENT}/dagRuns", json=body)
    run = airflow.finished(made["dag_run_id"], PATIENT)
    assert (run["state"], run["tasks"]["wait"], run["tasks"]["snapshot"]) == ("failed", "success", "failed")
    assert run["note"].startswith(f"REJECTED: incomplete: partition {CUTOFF + DAY} (")
    assert "write _SUCCESS beside it, then run the night again" in run["note"]
