"""Every pipeline's DAG: it parses, says who answers for it, and has the eleven tasks of the night in their order."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from ratchet.domain.night import STEPS
from ratchet.home import load_pipeline, pipeline_names
from ratchet.spec import TAKEN

ROOT = Path(__file__).resolve().parents[2]
NAMES = pipeline_names(ROOT / "include")
STUB = '"""Airflow DAG."""\n\nfrom ratchet.orchestration import training_dag\n\ndag = training_dag("{name}")\n'


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(ROOT / "dags"), load_op_links=False)


@pytest.fixture(params=NAMES)
def dag(bag, request):
    """The DAG of each pipeline in turn."""
    assert request.param in bag.dags, f"add dags/{request.param}.py, like the stubs beside it: {bag.import_errors}"
    return bag.dags[request.param]


def test_no_dag_fails_to_parse(bag):
    """Airflow imports every file of dags/."""
    assert bag.import_errors == {}


def test_no_pipeline_can_be_called_as_another_dag_is(bag):
    """Two DAGs of one name would hide each other; whatever trains no pipeline has a name that `check` refuses."""
    assert set(bag.dag_ids) - set(NAMES) == TAKEN


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_stub_says_one_thing(path):
    """A DAG file is a docstring, an import and a call: what a DAG does is told by its spec and by the factory."""
    lines = [line for line in path.read_text().split('"""')[2].splitlines() if line.strip()]
    assert len(lines) == 2, f"{path.name} does more than call its factory; put that into include/ratchet"


def test_tasks_stand_in_the_order_of_the_night(dag):
    """The eleven tasks follow each other, and nothing else is in the DAG."""
    assert dag.task_ids == list(STEPS)
    for before, after in pairwise(STEPS):
        assert dag.task_dict[before].downstream_task_ids == {after}


def test_dag_says_who_when_and_why(dag):
    """Owner, tags, description and documentation come from the spec; a night never overlaps the next."""
    assert dag.owner not in {"", "airflow"}
    assert {"ratchet"} < dag.tags
    assert dag.description
    assert "### Gates" in dag.doc_md
    assert dag.max_active_runs == 1
    assert dag.catchup is False
    assert dag.dagrun_timeout >= timedelta(hours=12)
    assert dag.start_date.tzinfo is not None


def test_tasks_are_bounded_and_explained(dag):
    """Each task has documentation, an owner, retries for faults that can pass, and, where it does anything, a time limit."""
    for task in dag.tasks:
        assert task.doc_md, task.task_id
        assert task.owner == dag.owner
        assert task.retries == 2
        assert task.retry_policy is not None
        assert task.retry_exponential_backoff
        assert task.execution_timeout or task.inherits_from_empty_operator, task.task_id


def test_report_always_runs_and_never_decides(dag):
    """The report is a teardown: it runs whatever failed, and a run that failed stays failed."""
    report = dag.task_dict["report"]
    assert report.is_teardown
    assert not report.on_failure_fail_dagrun
    assert [task.task_id for task in dag.tasks if task.is_teardown] == ["report"]
    assert {task.trigger_rule for task in dag.tasks if task is not report} == {"all_success"}


def test_only_a_turn_tells_of_a_champion(dag):
    """Promote has the pipeline's asset, whose address needs no provider; score tells of it when it has sent the champion back."""
    outlets = {task.task_id: task.outlets for task in dag.tasks if task.outlets}
    assert [asset.uri for asset in outlets.pop("promote")] == [f"x-ratchet://champion/{dag.dag_id}"]
    assert {task: [alias.name for alias in found] for task, found in outlets.items()} == {"score": ["champion"]}


def test_runs_daily_by_cutoff(dag):
    """A scheduled run's interval starts on the night's date, in UTC."""
    from airflow.sdk import CronDataIntervalTimetable

    assert isinstance(dag.timetable, CronDataIntervalTimetable)
    assert str(dag.timetable._timezone if hasattr(dag.timetable, "_timezone") else dag.timetable.timezone) == "UTC"


def test_dag_survives_serialization(dag):
    """What the scheduler reads from the database is small and holds the same tasks."""
    from airflow.serialization.serialized_objects import DagSerialization

    data = DagSerialization.to_dict(dag)
    assert len(json.dumps(data)) < 30_000
    assert list(DagSerialization.from_dict(data).task_ids) == list(STEPS)


def test_an_empty_approve_costs_nothing(dag):
    """Where nobody is asked, the scheduler passes over approve without starting a process."""
    assert dag.task_dict["approve"].inherits_from_empty_operator


def test_tuning_is_a_task_where_the_spec_asks_for_it(dag, home, tmp_path, parse):
    """Without it the scheduler passes over tune, and train takes the night of score; with it tune is a task like the others."""
    assert dag.task_dict["tune"].inherits_from_empty_operator
    assert dag.task_dict["train"].after == "score"
    spec = home / "pipelines" / "flight_delay.yaml"
    spec.write_text(spec.read_text().replace("training:", "training:\n  tuning: {trials: 3}", 1))
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "flight_delay.py").write_text(STUB.format(name="flight_delay"))
    bag = parse(tmp_path / "dags")
    assert bag.import_errors == {}
    tuned = bag.dags["flight_delay"]
    assert tuned.task_ids == list(STEPS)
    assert not tuned.task_dict["tune"].inherits_from_empty_operator
    assert tuned.task_dict["train"].after == "tune"
    assert tuned.task_dict["tune"].execution_timeout == timedelta(minutes=90)
    assert tuned.dagrun_timeout == dag.dagrun_timeout + timedelta(minutes=30)
    assert "are searched every 28 days and when the data has moved, in at most 3 trials and 30 minutes" in tuned.doc_md
    test_tasks_are_bounded_and_explained(tuned)


def test_approval_asks_a_person(home, tmp_path, parse):
    """Where the spec asks for a person, approve waits for one of those named, and no answer means no."""
    spec = home / "pipelines" / "flight_delay.yaml"
    spec.write_text(spec.read_text() + "\napproval: {when: [always], approvers: [uma], timeout_hours: 3}\n")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "flight_delay.py").write_text(STUB.format(name="flight_delay"))
    bag = parse(tmp_path / "dags")
    assert bag.import_errors == {}
    dag = bag.dags["flight_delay"]
    approve = dag.task_dict["approve"]
    assert approve.defaults == ["Reject"]
    assert approve.assigned_users == [{"id": "uma", "name": "uma"}]
    assert approve.response_timeout == timedelta(hours=3)
    assert dag.task_dict["report"].upstream_task_ids == {"promote", "approve"}  # a second attempt may find the answer
    assert dag.dagrun_timeout == timedelta(hours=15)


def test_a_night_waits_for_data_that_says_when_it_is_complete(home, tmp_path, parse):
    """One task more, before the snapshot; it leaves the other rules as they are, and the run has the time that it may take."""
    spec = home / "pipelines" / "flight_delay.yaml"
    rule = "format: parquet\n  completion: {by: marker, wait_hours: 4}\n"
    spec.write_text(spec.read_text().replace("format: parquet\n", rule, 1))
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "flight_delay.py").write_text(STUB.format(name="flight_delay"))
    bag = parse(tmp_path / "dags")
    assert bag.import_errors == {}
    dag = bag.dags["flight_delay"]
    assert dag.task_ids == ["wait", *STEPS]
    wait = dag.task_dict["wait"]
    assert wait.downstream_task_ids == {"snapshot"}
    assert dag.dagrun_timeout == timedelta(hours=16)
    test_tasks_are_bounded_and_explained(dag)
    test_report_always_runs_and_never_decides(dag)


def test_a_rule_without_a_wait_needs_no_task(home, tmp_path, parse):
    """With no hours to wait the snapshot decides at once."""
    spec = home / "pipelines" / "flight_delay.yaml"
    rule = "format: parquet\n  completion: {by: marker, wait_hours: 0}\n"
    spec.write_text(spec.read_text().replace("format: parquet\n", rule, 1))
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "flight_delay.py").write_text(STUB.format(name="flight_delay"))
    assert parse(tmp_path / "dags").dags["flight_delay"].task_ids == list(STEPS)


def test_dag_says_who_is_asked_when(home):
    """The DAG's documentation names the occasions, the people and the time, as the spec has them."""
    from ratchet.orchestration.docs import dag_doc

    spec = home / "pipelines" / "flight_delay.yaml"
    assert "Nobody is asked. An UNDECIDED may be overridden, with a reason, by nobody." in dag_doc(
        load_pipeline("flight_delay", home).spec
    )
    spec.write_text(
        spec.read_text()
        + "\napproval: {when: [override, slice_worse], approvers: [uma, role:op], timeout_hours: 3}\noverride: {allowed: [olga]}\n"
    )
    assert (
        "Where an UNDECIDED is overridden and where a slice got worse, uma, role:op must approve within 3 hours. "
        "An UNDECIDED may be overridden, with a reason, by olga."
    ) in dag_doc(load_pipeline("flight_delay", home).spec)


def test_approvers_can_be_a_role(home, tmp_path, parse, monkeypatch):
    """A role is whoever has it; one that nobody has is the DAG's import error, in the spec's words."""
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ann:op,bob:op,vic:viewer")
    spec = home / "pipelines" / "flight_delay.yaml"
    plain = spec.read_text()
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "flight_delay.py").write_text(STUB.format(name="flight_delay"))
    spec.write_text(plain + "\napproval: {when: [bootstrap], approvers: [role:op, uma]}\n")
    approve = parse(tmp_path / "dags").dags["flight_delay"].task_dict["approve"]
    assert [user["id"] for user in approve.assigned_users] == ["ann", "bob", "uma"]
    spec.write_text(plain + "\napproval: {when: [bootstrap], approvers: [role:boss]}\n")
    [words] = parse(tmp_path / "dags").import_errors.values()
    assert "'role:boss' stands for nobody" in words


def test_a_bad_spec_takes_down_its_own_dag_only(home, tmp_path, parse):
    """The import error names file, key and choices; the DAG beside it is there."""
    spec = (home / "pipelines" / "flight_delay.yaml").read_text()
    (home / "pipelines" / "good.yaml").write_text(spec.replace("name: flight_delay", "name: good", 1))
    (home / "pipelines" / "bad.yaml").write_text(
        spec.replace("name: flight_delay", "name: bad", 1).replace("holdout_days", "holdut_days", 1)
    )
    (tmp_path / "dags").mkdir()
    for name in ("good", "bad"):
        (tmp_path / "dags" / f"{name}.py").write_text(STUB.format(name=name))
    bag = parse(tmp_path / "dags")
    assert set(bag.dags) == {"good"}
    [(path, words)] = bag.import_errors.items()
    assert path.endswith("bad.py")
    assert "bad.yaml" in words
    assert "holdut_days" in words
    assert "did you mean 'holdout_days'" in words


def test_parsing_imports_nothing_heavy():
    """A parse imports Airflow and the spec, never the libraries that the tasks work with."""
    heavy = {
        "duckdb",
        "great_expectations",
        "matplotlib",
        "mlflow",
        "numpy",
        "pandas",
        "pyarrow",
        "scipy",
        "sklearn",
        "xgboost",
    }
    files = [str(path) for path in sorted((ROOT / "dags").glob("*.py"))]
    code = "import runpy, sys, airflow.sdk\nbefore = set(sys.modules)\n"
    code += "\n".join(f"runpy.run_path({path!r})" for path in files)
    code += "\nprint(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split()), "import it in the function that needs it"
