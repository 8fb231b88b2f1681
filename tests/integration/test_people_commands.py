"""What people do to a champion, by the command line, on real servers."""

from __future__ import annotations

import getpass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from ratchet.adapters.mlflow import MlflowRegistry
from samples.data import SAMPLES

if TYPE_CHECKING:
    from integration.conftest import World

CUTOFF = date(2024, 3, 9)
NEXT = CUTOFF + timedelta(days=1)


@pytest.fixture
def churn(world: World) -> World:
    """A world in which churn has had two champions, because its gate compares no recipes."""
    for key, data in SAMPLES["churn"](date(2024, 1, 20), NEXT):
        world.store.put(key, data)
    spec = world.home("churn") / "pipelines" / "churn.yaml"
    text = spec.read_text()
    spec.write_text(text[: text.index("gates:")] + "gates:\n  - {kind: bound, metric: auc, at_least: 0.55}\n")
    assert [world.night("churn", day)[1]["outcome"] for day in (CUTOFF, NEXT)] == ["promoted", "promoted"]
    return world


def ask(world: World, command: str, *words: str) -> tuple[int, dict, str]:
    """Run a command about churn."""
    return world.ratchet(command, "churn", "--home", str(world.home("churn")), *words)


def test_rollback_and_freeze_by_the_command_line(churn: World) -> None:
    """A rollback names its reason and what it tried; a freeze is shown, holds back the next promotion, and is thawed."""
    status, entry, _ = ask(churn, "rollback", "--reason", "nonsense at noon")
    assert (status, entry["action"], entry["champion"]["version"]) == (0, "rollback", 1)
    assert (entry["actor"], entry["reason"]) == (getpass.getuser(), "nonsense at noon")
    assert "loaded afresh and scored" in entry["reasons"][-1]
    shown = ask(churn, "champion")[1]
    assert (shown["version"], shown["alias"], shown["frozen"]) == (1, 1, None)
    status, _, error = ask(churn, "rollback", "--reason", "further")
    assert status == 2
    assert "version 1 is the first champion" in error
    assert ask(churn, "freeze", "--reason", "audit", "--until", "2999-01-01")[0] == 0
    assert ask(churn, "champion")[1]["frozen"]["until"] == "2999-01-01"
    assert ask(churn, "thaw", "--reason", "audit is over")[0] == 0
    assert ask(churn, "champion")[1]["frozen"] is None
    assert "it is not frozen" in ask(churn, "thaw", "--reason", "again")[2]


def test_an_alias_set_by_hand_is_set_right_or_adopted(churn: World) -> None:
    """Reconcile says what it has mended; with a reason it takes the hand's version over instead."""
    registry = MlflowRegistry(churn.environment["MLFLOW_TRACKING_URI"], churn.store.cache)
    registry.set_alias("churn", "champion", 1)
    assert "pointed at version 1" in ask(churn, "reconcile")[1]["repaired"]
    assert ask(churn, "reconcile")[1]["repaired"] is None
    registry.set_alias("churn", "champion", 1)
    assert "needs a reason" in ask(churn, "reconcile", "--adopt")[2]
    status, entry, error = ask(churn, "reconcile", "--adopt", "--reason", "it was meant")
    assert (status, entry.get("action"), entry.get("champion", {}).get("version")) == (0, "adopt", 1), error


def test_prune_lists_and_deletes(churn: World) -> None:
    """A dry run and the deed name the same; a young pipeline has nothing to lose."""
    (told,) = ask(churn, "prune", "--dry-run")[1]["pipelines"]
    assert (told["versions"], told["runs"], told["objects"]) == ([], [], [])
    spec = churn.home("churn") / "pipelines" / "churn.yaml"
    spec.write_text(spec.read_text() + "retention: {versions: 0, days: 0}\n")
    assert churn.night("churn", CUTOFF, "--dry-run")[0] == 0
    (would,) = ask(churn, "prune", "--dry-run")[1]["pipelines"]
    (done,) = ask(churn, "prune")[1]["pipelines"]
    assert would["objects"] == done["objects"]
    assert any(kept["key"].startswith("dry-runs/") for kept in done["objects"])
    assert done["runs"] == would["runs"] != []
    assert ask(churn, "rollback", "--reason", "still whole")[0] == 0


def test_who_may_not_override_is_told_before_anything_runs(churn: World) -> None:
    """The command names who may."""
    status, night, error = churn.night("churn", NEXT, "--override", "--reason", "x")
    assert (status, night) == (2, {})
    assert "override.allowed names nobody" in error
    assert "override.allowed names nobody" in ask(churn, "promote", "--version", "1", "--reason", "x")[2]
