"""The DAGs by which a person acts on a champion: short forms, refused in words, and never started but by a person."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ratchet.home import pipeline_names

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {
    "rollback": ["pipeline", "segment", "version", "reason"],
    "freeze": ["pipeline", "segment", "until", "reason"],
    "thaw": ["pipeline", "segment", "reason"],
}


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(ROOT / "dags"), load_op_links=False)


@pytest.fixture(params=FIELDS)
def dag(bag, request):
    """Each of the DAGs in turn."""
    return bag.dags[request.param]


def test_form_asks_for_what_the_action_needs(dag):
    """Each form has its own fields, each with a title and an explanation; the pipelines are a list to choose from."""
    assert list(dag.params) == FIELDS[dag.dag_id]
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.schema["title"]
        assert param.description
    assert dag.params.get_param("pipeline").schema["enum"] == list(pipeline_names(ROOT / "include"))


def test_only_a_person_starts_it(dag):
    """There is no schedule, and Airflow refuses every run that is not triggered by hand."""
    assert type(dag.timetable).__name__ == "NullTimetable"
    assert {kind.value for kind in dag.allowed_run_types} == {"manual"}
    assert not dag.is_paused_upon_creation


def test_one_short_task(dag):
    """The action is one task, bounded, and tried again where the weather was bad."""
    [task] = dag.tasks
    assert task.retries == 2
    assert task.retry_policy is not None
    assert task.execution_timeout <= timedelta(minutes=5)
    assert dag.doc_md
    assert "Whoever may trigger this DAG" in " ".join(dag.doc_md.split()).replace("whoever", "Whoever")


def test_only_rollback_tells_of_a_champion(bag):
    """Freezing and thawing change no champion."""
    assert {name: [outlet.name for outlet in bag.dags[name].tasks[0].outlets] for name in FIELDS} == {
        "rollback": ["champion"],
        "freeze": [],
        "thaw": [],
    }


@pytest.mark.parametrize(
    ("dag_id", "name", "value", "words"),
    [
        ("rollback", "pipeline", "flight_dely", "is not one of ['flight_delay']"),
        ("rollback", "version", 0, "is less than the minimum of 1"),
        ("rollback", "version", "newest", "is not of type 'null', 'integer'"),
        ("rollback", "reason", "", "is too short"),
        ("rollback", "reason", "   ", "does not match"),
        ("freeze", "until", "tomorrow", "is not a 'date'"),
        ("thaw", "reason", "x" * 1001, "is too long"),
    ],
)
def test_form_refuses(bag, dag_id, name, value, words):
    """A bad value is refused before the run is made."""
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError) as caught:
        bag.dags[dag_id].params.get_param(name).resolve(value)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["pipeline", "reason"])
def test_what_has_no_default_must_be_given(dag, name):
    """Nobody rolls back by an empty form."""
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve()
