"""The DAG that keeps the demo's feed live."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest


@pytest.fixture
def demo_feed():
    from ratchet.orchestration import demo_feed

    return demo_feed


def test_feed_lands_before_the_models_retrain(demo_feed):
    """The feed runs an hour before flight_delay, one run at a time, and explains itself."""
    dag = demo_feed.feed_dag("Why this is.")
    assert (dag.dag_id, dag.max_active_runs, dag.catchup, dag.doc_md) == ("demo_feed", 1, False, "Why this is.")
    assert dag.fileloc == __file__
    assert [task.task_id for task in dag.tasks] == ["land"]


def test_run_lands_through_the_day_before(demo_feed, monkeypatch):
    """A run in the night of the 22nd lands up to the 21st, wherever Airflow says the lake is."""
    from ratchet import wiring
    from ratchet.demo import feed

    keys, used = [], []
    lake = SimpleNamespace(list=lambda _uri: iter(()), put=lambda uri, _data, _type: keys.append(uri))
    monkeypatch.setattr(wiring, "services", lambda: SimpleNamespace(store=lake))
    monkeypatch.setattr(demo_feed.connections, "environment", lambda: {"RATCHET_S3_ENDPOINT": "http://lake"})
    monkeypatch.setattr(demo_feed.connections, "use", used.append)
    demo_feed.land(SimpleNamespace(run_after=datetime(2026, 11, 22, 2, tzinfo=UTC)))
    days = [key.split("dt=")[1][:10] for key in keys if "/flights/" in key]
    assert (len(days), max(days)) == (feed.HISTORY_DAYS, "2026-11-21")
    assert used == [{"RATCHET_S3_ENDPOINT": "http://lake"}]
