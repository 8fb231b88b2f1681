"""Specs: what is right is read, and what is wrong is told with file, key, value and choices."""

from __future__ import annotations

import copy
import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ratchet.errors import PipelineUnknown, SpecInvalid
from ratchet.home import default_home, load_pipeline, parse_spec, pipeline_names
from ratchet.spec import Pipeline, json_schema
from ratchet.wording import read_value

if TYPE_CHECKING:
    from pathlib import Path

SPEC = yaml.safe_load("""
name: demo
description: A demo.
owner: {name: me}
source:
  uri: s3://lake/t/
  format: csv
  partition: {by: path, pattern: "dt={date}/"}
  tables:
    weather: {uri: weather/, format: parquet}
window: {days: 20, holdout_days: 5, stop_days: 3}
validation: {suite: demo}
features: demo
target: {task: binary, sql: y}
gates:
  - {kind: bound, metric: auc, at_least: 0.6}
  - {kind: champion, loss: log_loss}
  - {kind: evidence, loss: brier}
""")
SUITE = {"name": "demo", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "y"}}]}
DELETED = object()


def changed(key: str, value: Any) -> str:
    """Return the spec as YAML with one dotted key set, or taken out."""
    data = copy.deepcopy(SPEC)
    *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    place = data
    for part in parents:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    if value is DELETED:
        del place[last]
    else:
        place[last] = value
    return yaml.safe_dump(data)


def complaint(text: str, **overrides) -> str:
    """Return what is said about a spec that does not hold."""
    with pytest.raises(SpecInvalid) as caught:
        parse_spec(text, "demo.yaml", overrides or None)
    return str(caught.value)


@pytest.fixture
def home(tmp_path) -> Path:
    """A home with one pipeline that holds."""
    for folder, name, text in (
        ("pipelines", "demo.yaml", yaml.safe_dump(SPEC)),
        ("suites", "demo.json", json.dumps(SUITE)),
        ("features", "demo.sql", "SELECT row_id, x FROM rows"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "nme",
            "x",
            "nme: is not a field; did you mean 'name'? Found 'x'; allowed: approval, deadline_hours, description,",
        ),
        ("windw", {}, "windw: is not a field; did you mean 'window'? Allowed: approval,"),
        ("window.dayss", 3, "window.dayss: is not a field; did you mean 'days'? Found 3; allowed: days, holdout_days,"),
        ("owner.mail", "x", "owner.mail: is not a field; did you mean 'email'? Found 'x'; allowed: email, name"),
        (
            "source.partition.patern",
            "x",
            "source.partition.patern: is not a field; did you mean 'pattern'? Found 'x'; allowed: by, pattern",
        ),
        (
            "source.tables.weather.day_before",
            1,
            "source.tables.weather.day_before: is not a field; did you mean 'days_before'? Found 1; allowed: columns,",
        ),
        (
            "source.tables.weather.partition",
            {"by": "column", "colum": "t"},
            "source.tables.weather.partition.colum: is not a field; did you mean 'column'?",
        ),
        (
            "gates.0.metrc",
            "auc",
            "gates[0].metrc: is not a field; did you mean 'metric'? Found 'auc'; allowed: at_least, at_most, kind, metric, min_rows, slice",
        ),
        (
            "gates.1.los",
            "brier",
            "gates[1].los: is not a field; did you mean 'loss'? Found 'brier'; allowed: confidence, kind, loss, margin, min_days",
        ),
        (
            "gates.2.wrong_promotions",
            0.1,
            "gates[2].wrong_promotions: is not a field; did you mean 'wrong_promotions_per_quarter'?",
        ),
        (
            "training.early_stopping",
            3,
            "training.early_stopping: is not a field; did you mean 'early_stopping_rounds'?",
        ),
        ("window.banana", 3, "window.banana: is not a field. Found 3; allowed: days,"),
    ],
)
def test_a_misspelt_key(key, value, message):
    """A key that does not exist is named where it was written, with the nearest that does and all that do."""
    assert f"demo.yaml: {message}" in complaint(changed(key, value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("source.format", "cvs", "source.format: found 'cvs'; did you mean 'csv'? choices: parquet, csv, jsonl"),
        (
            "target.task",
            "binry",
            "target.task: found 'binry'; did you mean 'binary'? choices: binary, multiclass, regression",
        ),
        (
            "source.partition",
            {"by": "colum"},
            "source.partition.by: found 'colum'; did you mean 'column'? choices: path, column",
        ),
        (
            "source.partition",
            {"column": "t"},
            "source.partition.by: is missing; there are: column; choices: path, column",
        ),
        (
            "gates.0.kind",
            "bond",
            "gates[0].kind: found 'bond'; did you mean 'bound'? choices: bound, champion, evidence,",
        ),
        (
            "gates.0",
            {"metric": "auc"},
            "gates[0].kind: is missing; there are: metric; choices: bound, champion, evidence,",
        ),
        ("gates.0.metric", "aucc", "gates[0].metric: found 'aucc'; did you mean 'auc'? choices: auc, pr_auc,"),
        (
            "validation.on_critical",
            "ignore",
            "validation.on_critical: found 'ignore'; choices: quarantine, quarantine_partition, reject",
        ),
        ("approval.when", ["sometimes"], "approval.when[0]: found 'sometimes'; choices: always, bootstrap"),
        ("training.device", "gpu", "training.device: found 'gpu'; did you mean 'cpu'? choices: cpu, cuda"),
    ],
)
def test_a_value_that_is_no_choice(key, value, message):
    """A value outside the choices is told with the choices and the nearest one."""
    assert f"demo.yaml: {message}" in complaint(changed(key, value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("window.days", "ninety", "window.days: expected a whole number, found 'ninety'"),
        ("window.days", 20.5, "window.days: expected a whole number, found 20.5"),
        ("window.days", None, "window.days: expected a whole number, found nothing"),
        ("window.days", 2, "window.days: must be at least 3, found 2"),
        ("window.label_delay_days", True, "window.label_delay_days: expected a whole number, found True"),
        ("validation.max_quarantined", True, "validation.max_quarantined: expected a number, found True"),
        ("validation.max_quarantined", 2, "validation.max_quarantined: must be at most 1, found 2"),
        ("approval.timeout_hours", 0, "approval.timeout_hours: must be more than 0, found 0"),
        ("gates.0.at_least", "high", "gates[0].at_least: expected a number, found 'high'"),
        ("gates.0.at_least", float("inf"), "gates[0].at_least: expected a finite number, found inf"),
        ("gates.1.margin", float("inf"), "gates[1].margin: expected a finite number, found inf"),
        ("gates.1.confidence", 1, "gates[1].confidence: must be less than 1, found 1"),
        ("start", "yesterday", "start: expected a date, such as 2024-01-31, found 'yesterday'"),
        ("schedule", 3, "schedule: expected a text, found 3; put it in quotes"),
        ("source.null_values", [False], "source.null_values[0]: expected a text, found False; put it in quotes"),
        ("source.columns", {"a": 3}, "source.columns.a: expected a text, found 3; put it in quotes"),
        ("source.delimiter", ";;", "source.delimiter: must have at most 1 character, found ';;'"),
        (
            "source.unknown_at_prediction",
            "a",
            "source.unknown_at_prediction: expected a list, such as [a, b], found 'a'",
        ),
        ("description", "", "description: must have at least 1 character, found ''"),
        (
            "name",
            "Demo 1",
            "name: expected lower-case letters, digits and _, at most 63 of them, a letter first, found 'Demo 1'",
        ),
        (
            "source.tables.Weather",
            {},
            "source.tables.Weather: expected lower-case letters, digits and _, at most 63 of them, a letter first, found 'Weather'",
        ),
        (
            "window",
            3,
            "window: expected keys and values of days, holdout_days, label_delay_days, max_age_days, min_partitions, min_rows, stop_days, found 3",
        ),
        ("owner", "me", "owner: expected keys and values of email, name, found 'me'"),
        ("training", None, "training: expected keys and values of class_weights,"),
        (
            "training",
            {"class_weights": "ballanced"},
            "training.class_weights: found 'ballanced'; expected balanced, or classes",
        ),
        ("training", {"class_weights": 2.0}, "training.class_weights: found '2.0'; expected balanced, or classes"),
        (
            "training",
            {"class_weights": {"1": -3.0}},
            "training.class_weights.1: must be more than 0, found -3.0",
        ),
        ("training.params", "deep", "training.params: expected keys and values, found 'deep'"),
        (
            "training.tuning.space",
            {"eta": {"low": 0.3, "high": 0.1}},
            "training.tuning.space.eta: low 0.3 must be less than high 0.1",
        ),
        (
            "training.tuning.space",
            {"eta": {"lo": 0.3, "high": 0.1}},
            "training.tuning.space.eta.lo: is not a field; did you mean 'low'?",
        ),
        (
            "training.tuning.space",
            {"eta": {"choices": []}},
            "training.tuning.space.eta.choices: the list needs at least 1, found none",
        ),
        (
            "training.tuning.space",
            {"eta": 7},
            "training.tuning.space.eta: expected keys and values of choices, high, log, low, found 7",
        ),
        ("gates", [], "gates: the list needs at least 1, found none: What a challenger must pass; all of them must."),
        ("gates", {"auc": 0.6}, "gates: expected a list, such as [a, b], found keys and values (auc)"),
        ("gates.0", "auc", "gates[0]: expected keys and values of kind, found 'auc'"),
    ],
)
def test_a_wrong_value(key, value, message):
    """A value of the wrong kind or size is told with what is expected and what was found, and never bent to fit."""
    assert f"demo.yaml: {message}" in complaint(changed(key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training", {"class_weights": {"1": -3.0}}),
        ("gates", [{"kind": "bound", "metric": "auc"}]),
        ("gates", [{"kind": "bund"}]),
    ],
)
def test_one_mistake_is_told_once(key, value):
    """What only follows from a mistake is not told: a list that is short of a wrong member, a type that was not meant."""
    assert len(complaint(changed(key, value)).splitlines()) == 1


@pytest.mark.parametrize(
    "schedule",
    ["", "nightly", "@daily", "0 3 * *", "0 0 3 * * *", "61 3 * * *", "0 25 * * *", "0 3 30 2 *", "0 3 * * x"],
)
def test_a_schedule_that_is_no_cron_expression(schedule):
    """A schedule that cron would not read, or that never comes, is told with what the five fields are."""
    said = complaint(changed("schedule", schedule))
    assert "demo.yaml: schedule: expected a cron expression of five fields" in said
    assert f"such as 0 3 * * * for 03:00 UTC every day, or null for manual runs only, found {schedule!r}" in said


@pytest.mark.parametrize("schedule", ["*/15 3-5 1,15 * MON-FRI", "0 3 29 2 *", "30  4 * jan 7", None])
def test_a_schedule_that_cron_reads(schedule):
    """Steps, ranges, lists and names are read, and null means by hand only."""
    assert parse_spec(changed("schedule", schedule), "demo.yaml").schedule == schedule


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("gates", "gates: is missing: What a challenger must pass"),
        ("window", "window: is missing: Which days a night reads."),
        ("owner.name", "owner.name: is missing: Person or team"),
        ("source.uri", "source.uri: is missing: `s3://bucket/prefix/`"),
        ("gates.0.metric", "gates[0].metric: is missing: Which metric"),
    ],
)
def test_a_missing_key_is_described(key, words):
    """A key that is missing is told with what it is for."""
    assert f"demo.yaml: {words}" in complaint(changed(key, DELETED))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("gates.0.metric", "rmse", "gates[0].metric: rmse is no metric of a binary task; there are: auc, pr_auc"),
        (
            "gates.1.loss",
            "squared_error",
            "gates[1].loss: squared_error is no loss of a binary task; there are: log_loss, brier, zero_one",
        ),
        (
            "gates.0.slice",
            "origin=JFK",
            "gates[0].slice: 'origin=JFK' is not `column=value` with a column of evaluation.slices",
        ),
        ("gates.1.min_days", 6, "gates[1].min_days: 6 days can never be had of window.holdout_days: 5"),
        ("gates.2.shadow_nights", 8, "gates[2].shadow_nights: 8 nights in shadow can never be had with league.size: 7"),
        (
            "gates.1",
            {"kind": "slices", "column": "origin", "loss": "brier"},
            "gates[1].column: 'origin' is no column of evaluation.slices; there are: none",
        ),
        (
            "gates.1",
            {"kind": "slice_gap", "column": "origin", "metric": "mae", "at_most": 1},
            "gates[1].metric: mae is no metric of a binary task; there are: auc,",
        ),
        (
            "gates.1",
            {"kind": "slice_gap", "column": "origin", "metric": "auc"},
            "gates[1]: give at_most, margin or both",
        ),
        (
            "gates.1",
            {"kind": "baseline", "loss": "absolute_error"},
            "gates[1].loss: absolute_error is no loss of a binary task; there are: log_loss, brier, zero_one",
        ),
        (
            "gates.1",
            {"kind": "baseline", "loss": "brier", "recent_days": 16},
            "gates[1].recent_days: there are 15 days before the hold-out, found 16",
        ),
        (
            "gates.1",
            {"kind": "drift", "features": ["x", "z"], "ignore": ["z"]},
            "gates[1].ignore: z cannot be looked at and ignored",
        ),
        ("gates.1", {"kind": "cost"}, "gates[1]: give at least one of artifact_mib, latency_ms and memory_mib"),
        (
            "gates.1",
            {"kind": "calibration", "at_least": 2.0},
            "gates[1]: at_least 2 must be less than at_most 1.25",
        ),
        (
            "gates.1",
            {"kind": "health", "volume": [2.0, 0.5]},
            "gates[1].volume: expected two finite numbers, not negative, the smaller first",
        ),
        ("gates", [{"kind": "champion", "loss": "brier"}], "gates: at least one gate of kind 'bound' is needed"),
        ("gates.0.at_most", 1, "gates[0]: give exactly one of at_least and at_most"),
        ("window.stop_days", 15, "window: holdout_days + stop_days = 20 leave nothing of 20 days to fit on"),
        (
            "source.partition.pattern",
            "dt=",
            "source.partition.pattern: it must contain {date}, or {yyyy}, {mm} and {dd}, found 'dt='",
        ),
        (
            "name",
            "rollback",
            "name: there is a DAG rollback already, which comes with Ratchet; call the pipeline something else",
        ),
        ("source.uri", "s3:///x", "source.uri: name a bucket: s3://bucket/prefix/, found 's3:///x'"),
        ("source.tables.rows", {"uri": "x", "format": "csv"}, "source.tables: 'rows' is the name of the source itself"),
        ("training.params", {"seed": 3}, "training.params: seed is set by training.seed"),
        ("training.params", {"eta": float("nan")}, "training.params: eta: expected a finite number, found nan"),
        ("training.params", {"eta": 0.1, "learning_rate": 0.2}, "learning_rate is called eta there too"),
    ],
)
def test_values_that_do_not_go_together(key, value, words):
    """What each field allows but the whole does not is told with both sides."""
    assert words in complaint(changed(key, value))


def test_every_problem_is_told_at_once():
    """Two mistakes give two lines, so that nobody mends one to meet the next."""
    data = copy.deepcopy(SPEC)
    data["window"]["dayss"], data["target"]["task"] = 3, "binry"
    assert len(complaint(yaml.safe_dump(data)).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: demo\n  x: : 1", "demo.yaml: line 2, column 4: not YAML: mapping values are not allowed here"),
        ("name: [a", "demo.yaml: line 1, column 9: not YAML:"),
        ("name: demo\nname: other", "demo.yaml: line 2, column 1: not YAML: key 'name' stands twice"),
        ("window: {days: 3, days: 4}", "key 'days' stands twice"),
        ("name: \x00", "demo.yaml: not YAML:"),
        ("", "demo.yaml: the file is empty"),
        ("# nothing yet", "demo.yaml: the file is empty"),
        ("- a\n- b", "demo.yaml: expected keys and values, such as `name: demo`, found a list of 2"),
        ("demo", "found 'demo'"),
        ("!!python/object:os.system {}", "not YAML"),
    ],
)
def test_a_file_that_is_no_mapping(text, words):
    """Broken YAML is told with line and column, and a key that stands twice does not win silently."""
    assert words in complaint(text)


def test_the_defaults_are_those_of_the_words():
    """What a spec leaves out has the documented default."""
    spec = parse_spec(yaml.safe_dump(SPEC), "demo.yaml")
    assert spec.schedule == "0 3 * * *"
    assert spec.league.size == 7
    assert spec.validation.on_critical == "quarantine"
    assert spec.source.tables["weather"].partition.by == "path"
    assert spec.windows(date(2024, 1, 31)).holdout.first == date(2024, 1, 27)
    assert spec.side_span(spec.source.tables["weather"], date(2024, 1, 31)).first == date(2024, 1, 11)


def test_merge_keys_still_work():
    """YAML anchors may be merged, and a merged key may be set anew."""
    text = yaml.safe_dump(SPEC).replace("window:\n", "window:\n  <<: {days: 90}\n")
    assert parse_spec(text, "demo.yaml").window.days == 20


def test_off_is_a_word():
    """An action may be `off` and a column `no` without quotes: only true and false are true and false."""
    text = yaml.safe_dump(SPEC).replace("window:\n", "drift: {action: off}\nwindow:\n", 1)
    text = text.replace("source:\n", "source:\n  columns: {no: VARCHAR, y: BOOLEAN}\n", 1)
    spec = parse_spec(text, "demo.yaml")
    assert (spec.drift.action, set(spec.source.columns)) == ("off", {"no", "y"})
    assert [read_value(word) for word in ("off", "no", "true", "False", "3")] == ["off", "no", True, False, 3]


def test_a_good_override_changes_one_value():
    """A dotted key reaches into the spec, also where the file leaves the section out."""
    spec = parse_spec(yaml.safe_dump(SPEC), "demo.yaml", {"training.params.max_depth": 4, "window.days": 30})
    assert (spec.training.params, spec.window.days) == ({"max_depth": 4}, 30)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"name": "other"}, "name: the name cannot be overridden"),
        ({"window.dayz": 3}, "demo.yaml, overridden: window.dayz: is not a field; did you mean 'days'? Found 3"),
        ({"window.days": "many"}, "demo.yaml, overridden: window.days: expected a whole number, found 'many'"),
        ({"window.days.x": 3}, "window.days.x: cannot be overridden: days is not a mapping"),
        ({"gates.0.at_least": 0.1}, "gates.0.at_least: cannot be overridden: gates is not a mapping"),
        ({"trainning.rounds": 3}, "demo.yaml, overridden: trainning: is not a field; did you mean 'training'?"),
    ],
)
def test_a_bad_override(overrides, words):
    """A wrong override is told like a wrong line of the file, and as an override."""
    assert words in complaint(yaml.safe_dump(SPEC), **overrides)


def test_a_home_is_read(home):
    """A pipeline is its spec with the suite and the SQL that it names."""
    found = load_pipeline("demo", home)
    assert pipeline_names(home) == ("demo",)
    assert (found.name, found.suite, found.sql) == ("demo", SUITE, "SELECT row_id, x FROM rows")


def test_an_unknown_pipeline(home):
    """A name without a file is told with the names that there are."""
    with pytest.raises(PipelineUnknown, match=r"no pipeline 'dmo' in .*; there are: demo"):
        load_pipeline("dmo", home)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("suites/demo.json", None, ["demo.yaml: validation.suite: no file", "suites/demo.json; there are: none"]),
        ("features/demo.sql", None, ["demo.yaml: features: no file", "features/demo.sql; there are: none"]),
        ("features/demo.sql", " \n", ["features/demo.sql: the file is empty; it needs one SELECT"]),
        ("suites/demo.json", "{", ["suites/demo.json: not JSON:", "line 1"]),
        (
            "suites/demo.json",
            '{"expectations": []}',
            ["expectations: a suite without expectations checks nothing; add at least one"],
        ),
        ("suites/demo.json", "[]", ["expectations: a suite without expectations"]),
        (
            "suites/demo.json",
            '{"expectations": [{"kwargs": {}}]}',
            ["suites/demo.json: expectations[0]: expected", '"type"'],
        ),
        (
            "suites/demo.json",
            '{"expectations": [{"type": "a", "severity": "fatal"}]}',
            ["expectations[0].severity: found 'fatal'; choices: critical, warning, info"],
        ),
        (
            "pipelines/demo.yaml",
            yaml.safe_dump({**SPEC, "name": "other"}),
            ["demo.yaml: name: 'other' must be the file's name, 'demo'"],
        ),
        ("pipelines/demo.yaml", b"name: caf\xe9", ["demo.yaml: not UTF-8: byte 0xe9 at 9; save the file as UTF-8"]),
    ],
)
def test_a_file_beside_the_spec_that_does_not_hold(home, file, content, words):
    """A missing, empty or broken suite or query is told with its own path."""
    path = home / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecInvalid) as caught:
        load_pipeline("demo", home)
    assert all(word in str(caught.value) for word in words)


def pipeline(text: str = "", sql: str = "SELECT 1", suite: dict | None = None) -> Pipeline:
    """Return a pipeline, changed in what the test is about."""
    return Pipeline(spec=parse_spec(text or yaml.safe_dump(SPEC), "demo.yaml"), suite=suite or SUITE, sql=sql)


@pytest.mark.parametrize("key", ["description", "owner.name", "schedule", "tags", "start"])
def test_the_digest_ignores_what_no_result_depends_on(key):
    """Words about a pipeline may change without making another recipe of it."""
    value = {"tags": ["x"], "start": date(2020, 1, 1)}.get(key, "0 4 * * *")
    assert pipeline(changed(key, value)).digest == pipeline().digest


def test_the_digest_sees_every_result_bearing_change():
    """Another parameter, gate, query or suite makes another run key."""
    found = {
        pipeline().digest,
        pipeline(changed("training.seed", 1)).digest,
        pipeline(changed("gates.0.at_least", 0.7)).digest,
        pipeline(sql="SELECT 2").digest,
        pipeline(suite={**SUITE, "name": "x"}).digest,
    }
    assert len(found) == 5


def test_scopes_and_suites_have_digests_of_their_own():
    """Pins depend on what is read, validations on the suite and the format; neither depends on the training."""
    other = pipeline(changed("training.seed", 1))
    assert (other.scope, other.suite_digest) == (pipeline().scope, pipeline().suite_digest)
    assert pipeline(changed("window.days", 30)).scope != pipeline().scope
    assert pipeline(changed("source.delimiter", ";")).suite_digest != pipeline().suite_digest


@pytest.mark.parametrize("name", pipeline_names(default_home()))
def test_the_project_s_own_pipelines_hold(name):
    """Every pipeline of the repository is read without a complaint."""
    assert load_pipeline(name, default_home()).name == name


def test_the_json_schema_describes_every_field():
    """Editors are told about each field of each section, by the same words as here."""
    schema = json_schema()
    assert schema["required"]
    sections = [schema, *schema["$defs"].values()]
    fields = {name: field for s in sections for name, field in s.get("properties", {}).items()}
    described = {name for name, field in fields.items() if field.get("description") or field.get("$ref")}
    assert described == fields.keys()
    assert all(section.get("description") for section in sections)


@pytest.mark.parametrize("name", ["arr_delay", "origin"])
def test_a_column_that_is_needed_cannot_be_ignored(name):
    """What is declared, dates the rows or is hidden from the query is refused where nobody is to read it."""
    text = yaml.safe_load(changed("source.ignore", [name]))
    text["source"] |= {"columns": {"origin": "VARCHAR"}, "unknown_at_prediction": ["arr_delay"]}
    assert f"ignore: '{name}' is named elsewhere in this table" in complaint(yaml.safe_dump(text))
