"""What every test shares: real servers once a session, Hypothesis without a clock, and how tests are spread over processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

# What leads to somebody's running services leads no test there; variables are set by the tests that need them.
for _name in [n for n in os.environ if n.startswith(("AIRFLOW__", "AWS_", "DASK_", "MLFLOW_", "RATCHET_"))]:
    del os.environ[_name]
# Airflow writes into its home as soon as it is imported, so each process of the tests has one of its own.
_AIRFLOW_HOME = os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="ratchet-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

from ratchet.provenance import cpus  # noqa: E402  after the variables
from ratchet.stack import embedded  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.scheduler import LoadScopeScheduling

    from ratchet.stack import Embedded

_STATUS = pytest.StashKey[int]()
_GIB_PER_WORKER = 3  # with the servers that a worker starts
_LONGEST_FIRST = ("tests/e2e/", "tests/integration/", "tests/unit/steps/", "tests/contract/")

settings.register_profile(
    "ratchet",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ratchet")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Say what ``-n auto`` means: one worker for each processor that memory allows, and none beside this process for one."""
    memory = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit, which says max
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    workers = min(cpus(), memory // (_GIB_PER_WORKER << 30))
    return workers if workers > 1 else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Keep the tests of a file on one worker, and all of `tests/e2e`, which share an Airflow."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/e2e" if nodeid.startswith("tests/e2e/") else nodeid.split("::", 1)[0]

    config.option.loadscopereorder = False  # how many tests a file has says little of how long it takes
    return Files(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start with what takes longest where tests are spread, so that no worker is left alone with it at the end."""
    if hasattr(config, "workerinput"):
        places = {folder: place for place, folder in enumerate(_LONGEST_FIRST)}

        def place(item: pytest.Item) -> int:
            return next((n for folder, n in places.items() if item.nodeid.startswith(folder)), len(places))

        items.sort(key=place)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the status for the end."""
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End without Python's clean-up, so that pytest's summary stays the last word; `ratchet.cli.entry` says why."""
    shutil.rmtree(_AIRFLOW_HOME, ignore_errors=True)
    if "duckdb" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(_STATUS, 3))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A real S3 server and a real MLflow server; their credentials are in this process's environment."""
    with embedded(tmp_path_factory.mktemp("stack")) as running, pytest.MonkeyPatch.context() as environment:
        for name, value in running.environment.items():
            environment.setenv(name, value)
        yield running
