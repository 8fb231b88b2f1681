"""Searches for parameters on real servers: tracked run by run, shown on the command line, used by the nights after."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from ratchet.adapters.mlflow import MlflowRegistry
from samples.data import SAMPLES

if TYPE_CHECKING:
    from integration.conftest import World

CUTOFF = date(2024, 3, 9)
DAY = timedelta(days=1)
TUNED = ("--set", "training.tuning={trials: 5, parallel: 2, every_days: 7}")


def test_search_is_tracked_shown_and_used(world: World) -> None:
    """The first night searches, each trial a run below the search's; the next one fits the champion's parameters."""
    for key, data in SAMPLES["churn"](date(2024, 1, 20), CUTOFF + DAY):
        world.store.put(key, data)
    status, first, errors = world.night("churn", CUTOFF, *TUNED)
    assert (status, first["outcome"]) == (0, "promoted"), errors
    assert (first["tuning"]["source"], first["tuning"]["searched"]) == ("search", True)
    status, shown, errors = world.ratchet("tuning", "churn", "--home", str(world.home("churn")))
    assert status == 0, errors
    assert (shown["cutoff"], shown["loss"], len(shown["trials"])) == (str(CUTOFF), "brier", 5)
    assert shown["params"].items() <= first["tuning"]["params"].items()
    client = MlflowRegistry(world.environment["MLFLOW_TRACKING_URI"], world.store.cache).client
    experiment = client.get_experiment_by_name("churn").experiment_id
    parent = shown["mlflow_url"].rpartition("/")[2]
    below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {run.info.run_id for run in below} == {trial["mlflow_run_id"] for trial in shown["trials"]}
    assert {run.info.status for run in [*below, client.get_run(parent)]} == {"FINISHED"}
    best = min(run.data.metrics["brier"] for run in below if "brier" in run.data.metrics)
    assert best <= client.get_run(parent).data.metrics["best.brier"]
    second = world.night("churn", CUTOFF + DAY, *TUNED)[1]
    assert (second["tuning"]["source"], second["tuning"]["params"]) == ("champion", first["tuning"]["params"])
    version = str(first["model_version"])
    made = world.ratchet("reproduce", "churn", version)
    assert made[0] == 0, made


def test_pipeline_without_a_search_says_how_to_ask_for_one(world: World) -> None:
    """Neither a pipeline that asks for none nor a night that made none leaves a person guessing."""
    home = ("--home", str(world.home("churn")))
    status, _, errors = world.ratchet("tuning", "churn", *home)
    assert (status, "its spec asks for none" in errors) == (2, True)
    status, _, errors = world.ratchet("tuning", "churn", "--cutoff", str(CUTOFF), *home)
    assert (status, f"no search of {CUTOFF} is on record" in errors) == (2, True)
