"""Segments in a real Airflow: one is too sparse for a model, one fails, two are promoted, and the run says so."""

from __future__ import annotations

import pytest
from running import SEGMENTED

from ratchet.steps.overview import newest


@pytest.fixture(scope="module")
def segmented(airflow):
    """A night with segments; the tasks' states with those of the mapped ones by their names."""
    run = airflow.finished(airflow.trigger(SEGMENTED, cutoff="2013-04-08"), SEGMENTED)
    path = f"/dags/{SEGMENTED}/dagRuns/{run['dag_run_id']}/taskInstances/segment/listMapped"
    mapped = airflow.api.request("GET", path)["task_instances"]
    return run | {"mapped": {task["rendered_map_index"]: task["state"] for task in mapped}}


def test_each_segment_is_a_task_of_its_own(segmented):
    """The one whose labels are all alike is red, the others are green, and the sparse one has none."""
    assert segmented["mapped"] == {"EWR": "success", "JFK": "success", "LGA": "failed"}
    assert segmented["tasks"]["segments"] == "success"


def test_a_failed_segment_is_named_in_the_end(segmented):
    """The night of all rows is promoted, the end is red, and the run is; its note says which segment and why."""
    assert (segmented["tasks"]["promote"], segmented["tasks"]["report"]) == ("success", "success")
    assert (segmented["tasks"]["segments_end"], segmented["state"]) == ("failed", "failed")
    assert segmented["note"].startswith("PROMOTED v1")
    assert "4 segments by leaves: 2 served by a champion of their own" in segmented["note"]
    assert "Went wrong: LGA: one_class" in segmented["note"]


def test_who_serves_each_segment_is_kept(airflow, segmented):
    """Two have a champion and a ledger of their own; the others are served by the global champion."""
    found = newest(airflow.services, SEGMENTED)
    assert found
    assert {s.value: s.serves for s in found.segments} == {"EWR": "own", "JFK": "own", "LGA": "global", "AS": "global"}
    ewr = next(s for s in found.segments if s.value == "EWR")
    (entry,) = airflow.services.ledger.entries(f"{SEGMENTED}--{ewr.slug}")
    assert (entry.action, entry.champion.version) == ("bootstrap", 1)


def test_pages_show_the_segments(airflow, segmented):
    """Overview, list and a segment's own page are there for who may read the pipeline, and for nobody else."""
    ewr = next(s for s in newest(airflow.services, SEGMENTED).segments if s.value == "EWR")
    assert "2 served by a champion of their own" in airflow.get(f"{airflow.url}/ratchet/", "viewer").text
    listed = airflow.get(f"{airflow.url}/ratchet/pipelines/{SEGMENTED}/segments", "viewer")
    assert "2 of 4 segments" in listed.text
    own = airflow.get(f"{airflow.url}/ratchet/pipelines/{SEGMENTED}--{ewr.slug}", "viewer")
    assert "Champion: version 1" in own.text
    assert airflow.get(f"{airflow.url}/ratchet/pipelines/{SEGMENTED}--{ewr.slug}").status_code == 401
