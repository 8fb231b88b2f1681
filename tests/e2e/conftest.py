"""One whole stack for every test here: flights up to a day whose file is broken, and pipelines that ask for people, wait, have segments, or search on a Dask cluster."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from running import GUARDED, LAST, NIGHTLY, PATIENT, SEARCHED, SEGMENTED, Airflow

from integration.dask_clusters import machines
from ratchet import stack
from ratchet.demo import feed

ROOT = Path(__file__).resolve().parents[2]

# The same flights, fewer days, a small model, and a gate that cannot decide once there is a champion.
ASKS_PEOPLE = {
    "name": GUARDED,
    "schedule": None,
    "window": {"days": 30, "holdout_days": 7, "stop_days": 7, "min_partitions": 15, "min_rows": 5000},
    "gates": [
        {"kind": "bound", "metric": "auc", "at_least": 0.5},
        {"kind": "champion", "loss": "brier", "margin": 0.0, "confidence": 0.9999},
    ],
    "evaluation": {"baselines": ["average"]},
    "approval": {"when": ["bootstrap", "override"], "approvers": ["role:user"], "timeout_hours": 0.025},
    "override": {"allowed": ["op"]},
}

# The same flights again; a night waits half an hour at most for the marker of each day.
WAITS = {
    "name": PATIENT,
    "schedule": None,
    "window": {"days": 10, "holdout_days": 2, "stop_days": 2, "min_partitions": 5, "min_rows": 1000},
    "gates": [{"kind": "bound", "metric": "auc", "at_least": 0.5}],
    "approval": {},
    "override": {},
}

# The same flights by where they leave: of one airline too few, and none from LaGuardia that counts. What counts at noon in Newark counts
# at all other hours at Kennedy, so that a model of one airport beats one of all.
IN_SEGMENTS = {
    "name": SEGMENTED,
    "schedule": None,
    "features": SEGMENTED,
    "window": {"days": 14, "holdout_days": 4, "stop_days": 3, "min_partitions": 5, "min_rows": 1000},
    "target": {
        "task": "binary",
        "sql": "origin <> 'LGA' AND (arr_delay >= 15) <> ((hour BETWEEN 10 AND 16) = (origin = 'EWR'))",
    },
    "segments": {"by": "leaves", "min_rows": 500},
    "gates": [{"kind": "bound", "metric": "auc", "at_least": 0.5}],
    "approval": {},
    "override": {},
}

# The same flights once more: parameters are searched, and everything is fitted on two workers.
SEARCHES = {
    "name": SEARCHED,
    "schedule": None,
    "window": {"days": 30, "holdout_days": 5, "stop_days": 5, "min_partitions": 15, "min_rows": 3000},
    "gates": [{"kind": "bound", "metric": "auc", "at_least": 0.5}],
    "approval": {},
    "override": {},
}
ON_DASK = {"engine": "dask", "refit": True, "tuning": {"trials": 3, "parallel": 2, "every_days": 28}}
LEAVES = "CASE WHEN flights.carrier = 'AS' THEN 'AS' ELSE flights.origin END AS leaves"


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    """A whole stack on free ports."""
    folder = tmp_path_factory.mktemp("stack")
    home, dags = _home(folder / "home"), _dags(folder / "dags")
    with ExitStack() as started:
        patch = started.enter_context(pytest.MonkeyPatch.context())
        cluster = started.enter_context(machines(tmp_path_factory.mktemp("dask"), 2))
        services = ("s3", "mlflow", "airflow")
        with pytest.MonkeyPatch.context() as starting:  # whoever starts the stack tells its nights, and nobody else
            starting.setenv("RATCHET_DASK", cluster.address)
            running = started.enter_context(stack.embedded(folder / "state", services=services, home=home, dags=dags))
        for name, value in running.environment.items():
            patch.setenv(name, value)
        found = Airflow(running)
        feed.land(found.store, through=LAST)
        found.store.put(f"s3://lake/flights/dt={LAST}/flights.parquet", b"PAR1 this is no Parquet", "")
        for dag in (NIGHTLY, GUARDED, PATIENT, SEARCHED, SEGMENTED):
            found.api.wait_for_dag(dag)
            found.api.unpause(dag)
        yield found


def _home(folder):
    for name in ("pipelines", "suites", "features"):
        shutil.copytree(ROOT / "include" / name, folder / name)
    spec = yaml.safe_load((folder / "pipelines" / f"{NIGHTLY}.yaml").read_text())
    spec["training"]["rounds"] = 10
    (folder / "pipelines" / f"{GUARDED}.yaml").write_text(yaml.safe_dump(spec | ASKS_PEOPLE))
    (folder / "pipelines" / f"{SEGMENTED}.yaml").write_text(yaml.safe_dump(spec | IN_SEGMENTS))
    asked = {"evaluation": {"baselines": ["average"]}, "training": spec["training"] | ON_DASK}
    (folder / "pipelines" / f"{SEARCHED}.yaml").write_text(yaml.safe_dump(spec | SEARCHES | asked))
    sql = (folder / "features" / f"{NIGHTLY}.sql").read_text()
    (folder / "features" / f"{SEGMENTED}.sql").write_text(
        sql.replace("flights.carrier,", f"flights.carrier,\n    {LEAVES},", 1)
    )
    spec["source"]["completion"] = {"by": "marker", "wait_hours": 0.5}
    (folder / "pipelines" / f"{PATIENT}.yaml").write_text(yaml.safe_dump(spec | WAITS))
    return folder


def _dags(folder):
    shutil.copytree(ROOT / "dags", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (GUARDED, PATIENT, SEARCHED, SEGMENTED):
        (folder / f"{name}.py").write_text((folder / f"{NIGHTLY}.py").read_text().replace(NIGHTLY, name))
    return folder
