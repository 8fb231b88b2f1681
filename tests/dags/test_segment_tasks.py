"""The DAG of a pipeline with segments: three tasks hang on the gate, and the report comes after them."""

from __future__ import annotations

import json

import pytest
import yaml

from ratchet.domain.night import STEPS

STUB = '"""Airflow DAG."""\n\nfrom ratchet.orchestration import training_dag\n\ndag = training_dag("flight_delay")\n'


@pytest.fixture
def dag(home, tmp_path, parse):
    """The DAG of flights by origin."""
    spec = home / "pipelines" / "flight_delay.yaml"
    spec.write_text(yaml.safe_dump({**yaml.safe_load(spec.read_text()), "segments": {"by": "origin"}}))
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "flight_delay.py").write_text(STUB)
    bag = parse(tmp_path / "dags")
    assert bag.import_errors == {}
    return bag.dags["flight_delay"]


def test_segments_hang_on_the_gate(dag):
    """Their nights begin when the night of all rows is judged, wait for nobody's approval, and are told of by the report."""
    assert set(dag.task_ids) == {*STEPS, "segments", "segment", "segments_end"}
    assert dag.task_dict["gate"].downstream_task_ids == {"approve", "segments"}
    assert dag.task_dict["segments"].downstream_task_ids == {"segment"}
    assert dag.task_dict["segment"].downstream_task_ids == {"segments_end"}
    assert dag.task_dict["segments_end"].downstream_task_ids == {"report"}
    assert dag.task_dict["report"].upstream_task_ids == {"promote", "segments_end"}


def test_each_segment_is_a_mapped_task(dag):
    """The scheduler makes a task of each, which names its segment and promises the champion's asset."""
    each = dag.task_dict["segment"]
    assert each.is_mapped
    assert each.map_index_template == "{{ segment }}"
    assert [alias.name for alias in each.partial_kwargs["outlets"]] == ["champion"]


def test_only_the_end_runs_whatever_has_failed(dag):
    """A failed segment does not keep the end from telling of it, and nothing but report is a teardown."""
    rules = {task.task_id: task.trigger_rule for task in dag.tasks if not task.is_teardown}
    assert rules.pop("segments_end") == "all_done"
    assert set(rules.values()) == {"all_success"}
    assert [task.task_id for task in dag.tasks if task.is_teardown] == ["report"]


def test_tasks_of_segments_are_bounded_and_explained(dag):
    """Each has documentation, an owner, retries for faults that can pass, and a time limit."""
    for name in ("segments", "segment", "segments_end"):
        task = dag.task_dict[name]
        assert task.doc_md
        assert task.owner == dag.owner
        assert task.retries == 2
    assert dag.task_dict["segments"].execution_timeout


def test_dag_with_segments_survives_serialization(dag):
    """What the scheduler reads from the database holds the same tasks."""
    from airflow.serialization.serialized_objects import DagSerialization

    data = DagSerialization.to_dict(dag)
    assert len(json.dumps(data)) < 40_000
    assert set(DagSerialization.from_dict(data).task_ids) == set(dag.task_ids)
