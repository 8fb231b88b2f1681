"""An Airflow context around a task instance that is a dictionary."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from stand_in import Events

from fakes import MemoryRegistry, MemoryStore


@pytest.fixture
def context():
    """Return an Airflow context around a task instance."""

    def make(ti, conf=None, **params):
        given = {
            "cutoff": "2013-06-01",
            "dry_run": False,
            "repin": False,
            "reason": "",
            "override": False,
            "overrides": {},
        }
        run = SimpleNamespace(
            run_type="manual",
            triggering_user_name="alice",
            data_interval_end=None,
            conf=conf,
            run_after=datetime(2013, 6, 2, tzinfo=UTC),
            dag_id=ti.dag_id,
            run_id=ti.run_id,
        )
        return {
            "ti": ti,
            "task_instance": ti,
            "run_id": ti.run_id,
            "dag_run": run,
            "params": {**given, **params},
            "outlet_events": Events(),
        }

    return make


@pytest.fixture
def services(tmp_path):
    """The stores, in memory."""
    from ratchet.adapters.ledger import ObjectLedger

    store = MemoryStore(tmp_path / "objects")
    return SimpleNamespace(store=store, registry=MemoryRegistry(tmp_path / "models"), ledger=ObjectLedger(store))


@pytest.fixture
def keep(services):
    """Keep decisions as the tasks of this run do."""
    from ratchet.orchestration import kept

    def make(context, **decisions):
        for decision, night in decisions.items():
            kept.keep(services.store, context, decision, night)
        return context

    return make
