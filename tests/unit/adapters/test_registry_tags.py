"""Tags that a hand has made unreadable are passed over: they stop neither a rollback nor a night."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest  # noqa: TC002  fixtures of its types

from ratchet.adapters.mlflow import MlflowRegistry

TAGS = {
    "ratchet.run_key": "r" * 64,
    "ratchet.artifact_digest": "a" * 64,
    "ratchet.seen_through": "2024-03-01",
    "ratchet.cutoff": "2024-03-08",
    "ratchet.recipe": "x",
    "ratchet.recipe_spec": "y",
    "ratchet.snapshot": "s" * 64,
    "ratchet.dry_run": "false",
}
HOUR = 3600.0


class Page(list):
    """One page of an answer, the last."""

    token = None


def registry(*, versions: tuple[Any, ...] = (), runs: tuple[Any, ...] = (), tags: dict[str, str] | None = None) -> Any:
    """Return a registry whose server answers with these."""
    made = MlflowRegistry("http://nowhere", cache=None)  # type: ignore[arg-type]
    made.__dict__["client"] = SimpleNamespace(
        search_model_versions=lambda *_, **__: Page(versions),
        search_runs=lambda *_, **__: Page(runs),
        get_experiment_by_name=lambda _: SimpleNamespace(experiment_id="1"),
        get_registered_model=lambda _: SimpleNamespace(tags=tags or {}, aliases={}),
    )
    return made


def version(number: int, **changed: str) -> Any:
    """Return a version as MLflow tells it."""
    tags = {**TAGS, **{f"ratchet.{name}": value for name, value in changed.items()}}
    return SimpleNamespace(version=str(number), name="p", run_id=f"run{number}", creation_timestamp=0, tags=tags)


def run(name: str, *, age: float = 0.0, status: str = "RUNNING", **changed: str) -> Any:
    """Return a run as MLflow tells it; ``age`` in seconds."""
    tags = {**TAGS, **{f"ratchet.{key}": value for key, value in changed.items()}}
    info = SimpleNamespace(run_id=name, status=status, start_time=int((time.time() - age) * 1000))
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags))


def test_a_version_with_an_unreadable_tag_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The others are still there, and the log names the tag."""
    caplog.set_level(logging.WARNING, "ratchet")
    found = registry(versions=(version(1), version(2, cutoff="garbage"))).versions("p")
    assert [v.version for v in found] == [1]
    assert "version 2 of p is left out: tag ratchet.cutoff" in caplog.text


def test_a_run_with_an_unreadable_tag_is_left_alone() -> None:
    """What cannot be told to be ours is not listed, so that nothing deletes it."""
    found = registry(runs=(run("a"), run("b", cutoff="garbage"))).tracked("p")
    assert [r.run_id for r in found] == ["a"]


def test_a_run_that_never_ended_is_not_running_for_ever() -> None:
    """A process that was killed ends no run; after two days nobody is at it any more."""
    found = registry(runs=(run("busy", age=5 * HOUR), run("dead", age=49 * HOUR), run("done", status="FINISHED")))
    assert {r.run_id: r.running for r in found.tracked("p")} == {"busy": True, "dead": False, "done": False}


def test_an_anchor_of_an_odd_name_is_none() -> None:
    """Only numbers name entries."""
    tags = {"ratchet.ledger.00000001": "h", "ratchet.ledger.²": "x", "ratchet.ledger.new": "x"}
    assert registry(tags=tags).anchors("p") == {1: "h"}
