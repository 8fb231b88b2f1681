"""An Airflow context around a task instance that is a dictionary."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from stand_in import Events

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="ratchet-airflow-"))


@pytest.fixture
def context():
    """Return an Airflow context around a task instance."""

    def make(ti, conf=None, **params):
        given = {"cutoff": "2013-06-01", "dry_run": False, "repin": False, "reason": "", "overrides": {}}
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
            "run_id": ti.run_id,
            "dag_run": run,
            "params": {**given, **params},
            "outlet_events": Events(),
        }

    return make
