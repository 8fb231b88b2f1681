"""The tree of errors: drawn, complete, and in words that help."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from ratchet import errors
from ratchet.adapters.mlflow import MlflowRegistry
from ratchet.errors import (
    AlreadyExists,
    ArtifactTampered,
    ConditionalWritesIgnored,
    DataRejected,
    LedgerBroken,
    NightSkipped,
    ObjectChanged,
    ObjectCorrupt,
    ObjectNotFound,
    PipelineUnknown,
    Problem,
    RatchetError,
    ServiceError,
    ServiceRefused,
    SettingsInvalid,
    SpecInvalid,
    UsageError,
    without_credentials,
)
from ratchet.settings import settings

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, RatchetError)]
DRAWN = {m[2]: len(m[1]) // 4 for m in re.finditer(r"^    ([│├└─ ]*)(\w+)", errors.__doc__ or "", re.MULTILINE)}


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_drawn_in_its_place(error):
    """The drawing at the top of errors.py has each class, as deep as it is derived."""
    assert error.__name__ in DRAWN, f"draw {error.__name__} in the docstring of errors.py"
    assert DRAWN[error.__name__] == len(error.__mro__) - len(RatchetError.__mro__)


def test_nothing_is_drawn_that_is_not_there():
    """The drawing names no class that has gone."""
    assert set(DRAWN) == {c.__name__ for c in CLASSES}


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        (UsageError("x"), 2, False),
        (SpecInvalid([Problem("f", "k", "m")]), 2, False),
        (PipelineUnknown("a", "home", []), 2, False),
        (SettingsInvalid("A", "b", "c"), 2, False),
        (DataRejected("corrupt", "x"), 3, False),
        (NightSkipped("too_few_rows", "x"), 0, False),
        (ServiceError("s3", "reading"), 1, True),
        (ServiceRefused("s3", "reading"), 1, False),
        (ObjectNotFound("s3://b/k"), 1, False),
        (ObjectChanged("s3://b/k", "a", "b"), 1, False),
        (ObjectCorrupt("s3://b/k", "a", "b"), 1, False),
        (AlreadyExists("s3://b/k"), 1, False),
        (LedgerBroken("p", 1, "x"), 1, False),
        (ArtifactTampered("m", "a", "b"), 1, False),
        (ConditionalWritesIgnored("e"), 1, False),
    ],
)
def test_how_an_error_ends_the_command(error, status, retryable):
    """Each error has its exit status, and only a fault that can pass is retried."""
    assert (error.exit_code, error.retryable) == (status, retryable)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            PipelineUnknown("flight", "/home/me", ["flight_delay", "other"]),
            ["'flight'", "/home/me/pipelines", "flight_delay, other"],
        ),
        (PipelineUnknown("flight", "/home/me", []), ["none yet"]),
        (
            SettingsInvalid("MLFLOW_TRACKING_URI", "", "the address of a server"),
            ["MLFLOW_TRACKING_URI=''", "the address of a server"],
        ),
        (ObjectNotFound("s3://b/k", "v7"), ["s3://b/k", "version v7"]),
        (ObjectChanged("s3://b/k", "12 bytes", "9 bytes"), ["s3://b/k", "expected 12 bytes", "found 9 bytes"]),
        (ObjectCorrupt("s3://b/k", "MD5 1", "MD5 2"), ["s3://b/k", "expected MD5 1", "found MD5 2", "land it again"]),
        (LedgerBroken("p", 42, "an edit"), ["ledger of p", "entry 00000042", "restore"]),
        (ArtifactTampered("model", "aaa", "bbb"), ["aaa", "bbb", "not loaded", "roll back"]),
        (ConditionalWritesIgnored("http://s"), ["http://s", "two promoters could both win", "refused"]),
        (
            SpecInvalid([Problem("a.yaml", "gates", "x"), Problem("a.yaml", "", "y")]),
            ["a.yaml: gates: x", "\na.yaml: y"],
        ),
        (ServiceError("MLflow", "listing", "refused"), ["MLflow: listing failed: refused"]),
        (ServiceError("MLflow", "listing"), ["MLflow: listing failed"]),
        (DataRejected("empty", "no rows in a.csv"), ["empty: no rows in a.csv"]),
    ],
)
def test_messages_carry_the_facts(error, words):
    """What, where, expected, found and what to do stand in the message."""
    assert all(word in str(error) for word in words)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:s3cret@mlflow:5000/api", "http://mlflow:5000/api"),
        ("at https://me:p@ss@host, then http://you:x@other/", "at https://host, then http://other/"),
        ("http://host/runs/@me and a@b.org", "http://host/runs/@me and a@b.org"),
    ],
)
def test_credentials_are_left_out_of_addresses(text, shown):
    """User and password go, and nothing else of a text does."""
    assert without_credentials(text) == shown


@pytest.mark.parametrize(
    "given", ["ftp://me:s3cret@host", "me:s3cret@host:5000", "http:/me:s3cret@host", "ftp://me:s3/cr@et@host"]
)
@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "RATCHET_S3_ENDPOINT"])
def test_a_wrong_address_is_told_without_its_credentials(name, given):
    """What is refused as no address may hold a password all the same, in whatever shape."""
    with pytest.raises(SettingsInvalid) as caught:
        settings({name: given})
    said = str(caught.value)
    assert not re.search("s3cret|s3/cr|me:", said)
    assert said.startswith(f"{name}='")
    assert "host" in said


def test_what_a_service_says_is_told_without_credentials():
    """The address that a library puts into its message is not passed on whole, and pages are linked without it."""
    assert "s3cret" not in str(ServiceError("MLflow", "listing", "API request to http://me:s3cret@host/api failed"))
    registry = MlflowRegistry("http://me:s3cret@host:5000/", Path())
    assert registry.version_url("demo", 3) == "http://host:5000/#/models/demo/versions/3"
    registry._experiments["demo"] = "7"
    assert registry.run_url("demo", "r") == "http://host:5000/#/experiments/7/runs/r"
    assert registry.tracking_uri == "http://me:s3cret@host:5000"
