"""What every test shares: real servers once a session, and Hypothesis without a clock."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from ratchet.stack import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.stack import Embedded

_STATUS = pytest.StashKey[int]()

settings.register_profile(
    "ratchet",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ratchet")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the status for the end."""
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End without Python's clean-up, so that pytest's summary stays the last word; `ratchet.cli.entry` says why."""
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
