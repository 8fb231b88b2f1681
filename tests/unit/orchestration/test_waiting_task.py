"""The task before the snapshot: deferred while data is missing that may still come, and never the one to reject."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import TaskDeferred
from stand_in import Ti

from ratchet.errors import ServiceError

INCLUDE = Path(__file__).resolve().parents[3] / "include"
DAY = "s3://lake/flights/dt=2013-06-01/"
LONG = 250_000  # hours: the night of the context was due in 2013


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """Change how the demo's flights say that they are complete."""
    for name in ("pipelines", "suites", "features"):
        shutil.copytree(INCLUDE / name, tmp_path / "home" / name)
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    spec = tmp_path / "home" / "pipelines" / "flight_delay.yaml"
    plain = spec.read_text()

    def change(hours=LONG):
        rule = f"format: parquet\n  completion: {{by: marker, wait_hours: {hours}}}\n"
        spec.write_text(plain.replace("format: parquet\n", rule, 1))

    change()
    return change


@pytest.fixture
def waiting(pipeline, monkeypatch, services):
    """The task, on stores in memory."""
    from ratchet.orchestration import tasks, waiting

    monkeypatch.setattr(tasks.connections, "environment", dict)
    monkeypatch.setattr("ratchet.wiring.services", lambda: services)
    return waiting.WaitTask(pipeline="flight_delay")


@pytest.fixture
def notes(monkeypatch):
    """The notes that were written."""
    from ratchet.orchestration import notes

    found = []
    monkeypatch.setattr(notes, "write", lambda _dag, _run, note, _say: found.append(note))
    return found


def test_it_defers_until_the_marker_is_there(waiting, context, services, notes):
    """The worker is let go; the note says what is awaited, once; and with the marker the night goes on."""
    services.store.put(f"{DAY}flights.parquet", b"data")
    with pytest.raises(TaskDeferred) as first:
        waiting.execute(context(Ti()))
    assert timedelta(seconds=50) < first.value.trigger.moment - datetime.now(UTC) <= timedelta(seconds=60)
    assert first.value.method_name == "look_again"
    assert notes[0].startswith("WAITING: waiting until ")
    assert f"{DAY}) has no marker _SUCCESS" in notes[0]
    with pytest.raises(TaskDeferred):
        waiting.look_again(context(Ti()), event=datetime.now(UTC), **first.value.kwargs)
    assert len(notes) == 1
    services.store.put(f"{DAY}_SUCCESS", b"")
    waiting.look_again(context(Ti()), event=datetime.now(UTC), **first.value.kwargs)


def test_what_is_handed_to_the_triggerer_holds_no_secret(waiting, context, notes):
    """A time, and no more: the triggerer is everybody's."""
    with pytest.raises(TaskDeferred) as found:
        waiting.execute(context(Ti()))
    path, kwargs = found.value.trigger.serialize()
    assert path.startswith("airflow.providers.standard.triggers.")
    assert set(kwargs) == {"moment", "end_from_trigger"}


def test_when_its_time_is_over_the_snapshot_speaks(pipeline, waiting, context, notes):
    """It ends well: the night's own words say what is wrong."""
    pipeline(hours=3)
    waiting.execute(context(Ti()))
    assert notes == []


def test_the_overrides_of_the_run_count(waiting, context, services, notes):
    """A night of another cutoff waits for another day."""
    services.store.put("s3://lake/flights/dt=2013-05-01/flights.parquet", b"data")
    services.store.put("s3://lake/flights/dt=2013-05-01/_SUCCESS", b"")
    waiting.execute(context(Ti(), cutoff="2013-05-01"))
    with pytest.raises(TaskDeferred):
        waiting.execute(context(Ti(), cutoff="2013-05-02"))


@pytest.mark.parametrize("asked", [{"conf": {"cutof": "2013-06-01"}}, {"overrides": {"window.days": 10}}])
def test_what_was_asked_in_vain_is_told_by_the_first_step(waiting, context, notes, asked):
    """A misspelt key and an override that does not fit are not waited for."""
    waiting.execute(context(Ti(), **asked))
    assert notes == []


def test_a_store_that_is_down_for_a_while_is_waited_for(waiting, context, services, notes, monkeypatch):
    """It may be back before the time is over."""

    def down(_uri, **_asked):
        raise ServiceError("object store", "listing", "503")

    monkeypatch.setattr(services.store, "list", down)
    with pytest.raises(TaskDeferred):
        waiting.execute(context(Ti()))
    assert "503" in notes[0]


def test_a_wait_that_was_killed_is_named(context, monkeypatch, pipeline):
    """The report of a run whose first task ended without a word says which."""
    from ratchet.orchestration import tasks

    night = tasks._never_begun("flight_delay", context(Ti({"wait": "failed", "snapshot": "upstream_failed"})))
    assert night.ended.detail.startswith("wait ended without a word")
