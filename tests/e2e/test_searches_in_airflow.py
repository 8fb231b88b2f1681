"""Parameters are searched in a real Airflow, and everything is fitted on a Dask cluster of two workers."""

from __future__ import annotations

import os

import pytest
from mlflow import MlflowClient
from running import SEARCHED

from ratchet.domain.night import STEPS


@pytest.fixture(scope="module")
def nights(airflow):
    """A night that searches, and the next one."""
    runs = [airflow.trigger(SEARCHED, cutoff=cutoff) for cutoff in ("2013-04-08", "2013-04-09")]
    return [airflow.finished(run, SEARCHED) for run in runs]


def page(airflow, night):
    """Return a night's page, as a viewer sees it."""
    return airflow.get(airflow.link(night["dag_run_id"], "report", "Report", SEARCHED), "viewer").text


def run_behind(airflow, night, task, name):
    """Return the MLflow run that a task's button leads to."""
    url = airflow.link(night["dag_run_id"], task, name, SEARCHED)
    assert url.startswith(os.environ["MLFLOW_TRACKING_URI"])
    return MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).get_run(url.rpartition("/")[2])


def test_a_search_is_a_task_whose_button_leads_to_its_trials(airflow, nights):
    """The task tune is green, the night is promoted, and each trial is an MLflow run below the search's."""
    first = nights[0]
    assert first["tasks"] == dict.fromkeys(STEPS, "success"), first["note"]
    assert first["note"].startswith("PROMOTED v1"), first["note"]
    search = run_behind(airflow, first, "tune", "MLflow search")
    below = MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).search_runs(
        [search.info.experiment_id], f"tags.`mlflow.parentRunId` = '{search.info.run_id}'"
    )
    assert sorted(run.info.run_name for run in below) == ["trial 0", "trial 1", "trial 2"]
    assert {run.info.status for run in [search, *below]} == {"FINISHED"}
    assert "searched, because" in (shown := page(airflow, first))
    assert all(f"{run.data.metrics['log_loss']:.5f}" in shown for run in below)


def test_the_night_after_fits_what_serves(airflow, nights):
    """No search is due: the parameters are the champion's, its page says so, and the task has no search to lead to."""
    second = nights[1]
    assert second["tasks"]["tune"] == "success", second["note"]
    assert airflow.link(second["dag_run_id"], "tune", "MLflow search", SEARCHED) in {"", None}
    fitted = [run_behind(airflow, night, "train", "MLflow run").data.params for night in nights]
    searched = ("eta", "max_depth", "min_child_weight", "subsample", "colsample_bytree", "reg_lambda")
    assert [fitted[0].get(name) for name in searched] == [fitted[1].get(name) for name in searched]
    assert "searched, because" not in (shown := page(airflow, second))
    assert "those of champion v1, which the search of 2013-04-08 has found" in shown


def test_fits_are_made_on_the_workers(airflow, nights):
    """Both nights' models come from two workers, as their MLflow runs say."""
    for night in nights:
        params = run_behind(airflow, night, "train", "MLflow run").data.params
        assert (params["made_on.engine"], params["made_on.workers"]) == ("dask", "2")
