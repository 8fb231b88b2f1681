"""DAGs are parsed as Airflow parses them, with an Airflow home of the tests' own and without a database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A copy of the project's home that a test may change."""
    home = tmp_path / "home"
    for name in ("pipelines", "suites", "features"):
        shutil.copytree(ROOT / "include" / name, home / name)
    monkeypatch.setenv("RATCHET_HOME", str(home))
    return home


@pytest.fixture
def parse():
    """Parse a folder of DAG files; the answer has ``dags`` and ``import_errors``."""
    from airflow.dag_processing.dagbag import DagBag

    return lambda folder: DagBag(dag_folder=str(folder), load_op_links=False)
