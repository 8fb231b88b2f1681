"""Reads what a user wrote: a home is a folder with ``pipelines/<name>.yaml``, ``suites/<name>.json`` and ``features/<name>.sql``."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ratchet.domain.segments import BETWEEN, SLUG, split
from ratchet.errors import PipelineUnknown, Problem, SpecInvalid
from ratchet.spec import Pipeline, PipelineSpec
from ratchet.wording import problems, read_yaml


def default_home() -> Path:
    """Return ``RATCHET_HOME``, by default the project's ``include/``."""
    return Path(os.environ.get("RATCHET_HOME") or Path(__file__).resolve().parent.parent)


def pipeline_names(home: Path) -> tuple[str, ...]:
    """Return the names of all pipelines in a home."""
    return tuple(sorted(p.stem for p in (home / "pipelines").glob("*.yaml")))


def load_pipeline(name: str, home: Path | None = None, overrides: dict[str, Any] | None = None) -> Pipeline:
    """Read one pipeline, or that of one of its segments' models.

    Args:
        name: the YAML file's name without its ending; of a segment, two hyphens and its slug follow.
        home: the folder to look in; by default ``RATCHET_HOME`` or ``include/``.
        overrides: values by dotted key, such as ``{"training.params.max_depth": 4}``.

    Raises:
        PipelineUnknown: there is no such file.
        SpecInvalid: with every problem found, each with file, key, value and choices.
    """
    home = home or default_home()
    whole, slug = split(name)
    path = home / "pipelines" / f"{whole}.yaml"
    if not path.is_file():
        raise PipelineUnknown(name, str(home), pipeline_names(home))
    spec = parse_spec(_text(path), str(path), overrides)
    if spec.name != whole:
        raise SpecInvalid([Problem(str(path), "name", f"{spec.name!r} must be the file's name, {whole!r}")])
    if BETWEEN in name:
        _refuse_no_segment(spec, name, slug, path)
    wrong: list[Problem] = []
    suite = _suite(home, spec.validation.suite, path, wrong)
    sql = _sql(home, spec.features, path, wrong)
    if wrong:
        raise SpecInvalid(wrong)
    return Pipeline(spec=spec, suite=suite, sql=sql, segment=slug)


def _refuse_no_segment(spec: PipelineSpec, name: str, slug: str, path: Path) -> None:
    if spec.segments is None:
        words = f"{name!r} asks for a segment, and there are none; add `segments: {{by: …}}`, or ask for {spec.name!r}"
        raise SpecInvalid([Problem(str(path), "segments", words)])
    if not re.fullmatch(SLUG, slug):
        words = f"{slug!r} is no segment's slug; `ratchet segments {spec.name}` lists those that there are"
        raise SpecInvalid([Problem(str(path), "segments", words)])


def load_without_suite(name: str, home: Path | None = None) -> Pipeline:
    """Read a pipeline whose suite and SQL need not exist yet, to draft the suite from its data.

    Raises:
        PipelineUnknown: there is no such file.
        SpecInvalid: with every problem found.
    """
    home = home or default_home()
    path = home / "pipelines" / f"{name}.yaml"
    if not path.is_file():
        raise PipelineUnknown(name, str(home), pipeline_names(home))
    return Pipeline(spec=parse_spec(_text(path), str(path)), suite={}, sql="")


def parse_spec(text: str, file: str, overrides: dict[str, Any] | None = None) -> PipelineSpec:
    """Read a spec from YAML; ``file`` is for messages."""
    data = read_yaml(text, file)
    for key, value in (overrides or {}).items():
        _override(data, key, value, file)
    try:
        return PipelineSpec.model_validate(data)
    except ValidationError as exc:
        raise SpecInvalid(
            [_overridden(problem, overrides or {}) for problem in problems(PipelineSpec, file, exc)]
        ) from exc


def with_gates(pipeline: Pipeline, text: str, file: str) -> Pipeline:
    """Return the pipeline with the gates of another file: YAML with a list ``gates``, and nothing else."""
    data = read_yaml(text, file, "gates: [{kind: champion, loss: brier}]")
    wrong = [
        Problem(file, str(key), "is not a field here; the file holds a list `gates`") for key in data if key != "gates"
    ]
    if wrong:
        raise SpecInvalid(wrong)
    try:
        spec = PipelineSpec.model_validate({**pipeline.spec.model_dump(exclude={"gates"}), **data})
    except ValidationError as exc:
        raise SpecInvalid(problems(PipelineSpec, file, exc)) from exc
    return pipeline.model_copy(update={"spec": spec})


def _overridden(problem: Problem, overrides: dict[str, Any]) -> Problem:
    """Say that a wrong value comes from an override, not from the file."""
    mine = any(problem.key == key or key.startswith(f"{problem.key}.") for key in overrides)
    return dataclasses.replace(problem, file=f"{problem.file}, overridden") if mine else problem


def _override(data: dict[str, Any], dotted: str, value: Any, file: str) -> None:
    *parents, last = dotted.split(".")
    if parents[:1] == [] and last == "name":
        raise SpecInvalid([Problem(file, dotted, "the name cannot be overridden")])
    for part in parents:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise SpecInvalid([Problem(file, dotted, f"cannot be overridden: {part} is not a mapping")])
    data[last] = value


def _suite(home: Path, name: str, spec: Path, wrong: list[Problem]) -> dict[str, Any]:
    path = home / "suites" / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        wrong.append(Problem(str(spec), "validation.suite", f"no file {path}; there are: {known}"))
        return {}
    try:
        suite = json.loads(_text(path))
    except ValueError as exc:
        wrong.append(Problem(str(path), "", f"not JSON: {exc}"))
        return {}
    expectations = suite.get("expectations") if isinstance(suite, dict) else None
    if not isinstance(suite, dict) or not isinstance(expectations, list) or not expectations:
        wrong.append(
            Problem(str(path), "expectations", "a suite without expectations checks nothing; add at least one")
        )
        return {}
    for i, expectation in enumerate(expectations):
        if not isinstance(expectation, dict) or not isinstance(expectation.get("type"), str):
            wrong.append(Problem(str(path), f"expectations[{i}]", 'expected {"type": "expect_…", "kwargs": {…}}'))
        elif expectation.get("severity", "critical") not in {"critical", "warning", "info"}:
            wrong.append(
                Problem(
                    str(path),
                    f"expectations[{i}].severity",
                    f"found {expectation['severity']!r}; choices: critical, warning, info",
                )
            )
    return suite


def _sql(home: Path, name: str, spec: Path, wrong: list[Problem]) -> str:
    path = home / "features" / f"{name}.sql"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.sql"))) or "none"
        wrong.append(Problem(str(spec), "features", f"no file {path}; there are: {known}"))
        return ""
    sql = _text(path)
    if not sql.strip():
        wrong.append(
            Problem(str(path), "", "the file is empty; it needs one SELECT that gives row_id and at least one feature")
        )
    return sql


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise SpecInvalid(
            [
                Problem(
                    str(path),
                    "",
                    f"not UTF-8: byte {exc.object[exc.start]:#04x} at {exc.start}; save the file as UTF-8",
                )
            ]
        ) from exc
