"""Only faults that can pass are tried again."""

from __future__ import annotations

import errno

import httpx
import pytest

from ratchet.errors import (
    AlreadyExists,
    ArtifactTampered,
    DataRejected,
    ObjectNotFound,
    Problem,
    ServiceError,
    ServiceRefused,
    SettingsInvalid,
    SpecInvalid,
)


@pytest.fixture(scope="module")
def retries():
    from ratchet.orchestration import retries

    return retries


@pytest.mark.parametrize(
    "error",
    [
        ServiceError("object store", "get x", "503"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError("slow"),
        httpx.ConnectError("the api-server is down"),
    ],
    ids=repr,
)
def test_weather_passes(retries, error):
    """A fault of the network or of a service is tried again, after the usual delay."""
    decision = retries.WeatherOnly().evaluate(error, 1, 3)
    assert decision.action.value == "default"


@pytest.mark.parametrize(
    "error",
    [
        DataRejected("corrupt", "x"),
        SpecInvalid([Problem("a.yaml", "gates", "is missing")]),
        SettingsInvalid("MLFLOW_TRACKING_URI", "", "an address"),
        ServiceRefused("object store", "get x", "403"),
        ObjectNotFound("s3://lake/x"),
        AlreadyExists("s3://lake/x"),
        ArtifactTampered("model", "a", "b"),
        OSError(errno.ENOSPC, "disk full"),
        MemoryError("no more"),
        KeyError("a bug"),
        AssertionError("a bug"),
    ],
    ids=repr,
)
def test_the_rest_fails_at_once(retries, error):
    """Bad data, a bad spec, a broken record, a full disk or a bug would only come again."""
    decision = retries.WeatherOnly().evaluate(error, 1, 3)
    assert decision.action.value == "fail"
