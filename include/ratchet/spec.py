"""The pipeline as data: what a user writes, read into frozen models with a description on every field.

A home is a folder with ``pipelines/<name>.yaml``, ``suites/<name>.json`` and ``features/<name>.sql``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, ValidationError, field_validator, model_validator

from ratchet.domain.completion import names_day
from ratchet.domain.data_rules import Completion, Drift, Validation
from ratchet.domain.gates import (
    LOSSES,
    METRICS,
    BaselineGate,
    BaseRateGate,
    BoundGate,
    CalibrationGate,
    ChampionGate,
    DriftGate,
    EvidenceGate,
    Gate,
    Loss,
    SliceGapGate,
    SlicesGate,
)
from ratchet.domain.measuring import Measuring
from ratchet.domain.records import Record, digest
from ratchet.domain.segments import BETWEEN, SLUG, name_of, split
from ratchet.domain.snapshots import SourceFormat
from ratchet.domain.training_rules import Evaluation, Segments, Target, Training
from ratchet.domain.windows import Span, Windows, windows
from ratchet.errors import PipelineUnknown, Problem, SpecInvalid
from ratchet.wording import problems, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Owner(Record):
    """Who answers for the model."""

    name: str = Field(min_length=1, description="Person or team, shown as the owner of the DAG.")
    email: str | None = Field(None, description="Where to reach them.")


class ByPath(Record):
    """One partition per day, told by the object's key."""

    by: Literal["path"] = Field(description="The day stands in the key.")
    pattern: str = Field(
        "dt={date}/",
        description="Part of the key that holds the day, anywhere below the prefix: `dt={date}/`, `sales_{date}.csv`. {date} stands for "
        "YYYY-MM-DD, {yyyy}, {mm} and {dd} for its parts; one that stands twice must be the same both times.",
    )

    @field_validator("pattern")
    @classmethod
    def _has_date(cls, value: str) -> str:
        if "{date}" not in value and not all(part in value for part in ("{yyyy}", "{mm}", "{dd}")):
            raise ValueError("it must contain {date}, or {yyyy}, {mm} and {dd}")
        return value


class ByColumn(Record):
    """Plainly landed files whose rows carry their date."""

    by: Literal["column"] = Field(description="The day stands in a column of the rows.")
    column: str = Field(description="A DATE or TIMESTAMP column, or text that reads as one; its date is the row's day.")


Partition = Annotated[ByPath | ByColumn, Field(discriminator="by")]


class Table(Record):
    """Where one table lands and how its files are written."""

    uri: str = Field(
        description="`s3://bucket/prefix/` under which the files land; a bare `prefix/` lies in RATCHET_BUCKET.",
        examples=["s3://lake/flights/"],
    )
    format: SourceFormat = Field(description="How the files are written; .gz is recognised by CSV and JSON Lines.")
    partition: Partition = Field(ByPath(by="path"), description="How a row's day is told.")
    columns: dict[str, str] = Field({}, description="Column → DuckDB type, for CSV and JSON Lines; others are sniffed.")
    null_values: tuple[str, ...] = Field(("",), description="Texts that mean null, for CSV.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="Field separator, for CSV.")
    ignore: tuple[str, ...] = Field(
        (), description="Columns that nobody reads: a partition may have them or not, and of any type."
    )
    completion: Completion | None = Field(
        None, description="How a partition shows that it is complete; by default whatever has landed counts as such."
    )

    @model_validator(mode="after")
    def _reads_what_it_needs(self) -> Table:
        needed = {*self.columns, *([self.partition.column] if isinstance(self.partition, ByColumn) else [])}
        needed |= {*getattr(self, "unknown_at_prediction", ()), getattr(self, "known_at", None) or ""}
        both = sorted(needed & set(self.ignore))
        if both:
            raise ValueError(
                f"ignore: {both[0]!r} is named elsewhere in this table, so it cannot be ignored; name it once"
            )
        return self

    @field_validator("uri")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if ":" in value and not value.startswith("s3://"):
            raise ValueError("an address begins with s3://, and a bare prefix has no colon")
        if value.startswith("s3://") and not value.removeprefix("s3://").partition("/")[0]:
            raise ValueError("name a bucket: s3://bucket/prefix/")
        return value if value.endswith("/") else value + "/"

    @model_validator(mode="after")
    def _marker_of_a_day(self) -> Table:
        rule = self.completion
        if rule is None or rule.by == "quiet":
            return self
        if "{" in rule.name and not (names_day(rule.name) and isinstance(self.partition, ByPath)):
            raise ValueError(
                f"completion.name: {rule.name!r} has a part that stands for nothing here; {{date}}, or {{yyyy}}, {{mm}} and {{dd}}, "
                "stand for the day, where partition.by is path"
            )
        if isinstance(self.partition, ByPath) and not names_day(rule.name):
            after = re.split(r"\{(?:date|yyyy|mm|dd)\}", self.partition.pattern)[-1]
            if after and "/" not in after:
                raise ValueError(
                    f"completion.name: {rule.name!r} would speak for several days at once, for by pattern {self.partition.pattern!r} they "
                    f"share a folder; put the day into the name, such as {{date}}.{rule.name.strip('_.')}"
                )
        return self


class SideTable(Table):
    """A table that the features query joins to the rows."""

    days_before: StrictInt = Field(
        1, ge=0, description="How many days before the window its partitions are still needed."
    )
    known_at: str | None = Field(
        None,
        description="DATE or TIMESTAMP column of when a row became known; with validation.window.event_time it shows features that use what came "
        "later on the same day.",
    )


class Source(Table):
    """The table that is learnt from; the features query sees it as `rows`."""

    tables: dict[Identifier, SideTable] = Field({}, description="Side tables by the name that the query uses.")
    unknown_at_prediction: tuple[str, ...] = Field(
        (), description="Columns that are not known when a prediction is made. The features query cannot see them."
    )

    @field_validator("tables")
    @classmethod
    def _not_rows(cls, value: dict[str, SideTable]) -> dict[str, SideTable]:
        if "rows" in value:
            raise ValueError("'rows' is the name of the source itself; call the side table something else")
        return value


class Window(Record):
    """Which days a night reads. The hold-out is the end of the window; early stopping watches the days before it."""

    days: StrictInt = Field(ge=3, description="Length of the window in days, the hold-out included.")
    holdout_days: StrictInt = Field(
        7, ge=1, description="Days at the end that the fit never sees; both models are compared there."
    )
    stop_days: StrictInt = Field(7, ge=1, description="Days before the hold-out on which early stopping watches.")
    label_delay_days: StrictInt = Field(0, ge=0, description="Days until a label is known; newer rows are not used.")
    min_partitions: StrictInt = Field(
        1, ge=1, description="With fewer days of data in the window the night is skipped."
    )
    min_rows: StrictInt = Field(1, ge=1, description="With fewer rows to fit on the night is skipped.")
    max_age_days: StrictInt | None = Field(
        None, ge=0, description="Reject as stale when the newest partition is older than this at the cutoff."
    )

    @model_validator(mode="after")
    def _fits(self) -> Window:
        if self.holdout_days + self.stop_days >= self.days:
            raise ValueError(
                f"holdout_days + stop_days = {self.holdout_days + self.stop_days} leave nothing of {self.days} days to fit on"
            )
        return self


class League(Record):
    """Who scores each new day in shadow, beside the champion."""

    size: StrictInt = Field(
        7,
        ge=0,
        le=30,
        description="How many of the last challengers score each new day; those made while its labels were awaited come on top.",
    )


ApprovalWhen = Literal["always", "bootstrap", "override", "small_gain", "slice_worse"]


class Approval(Record):
    """When a person stands between a PASS and the promotion."""

    when: tuple[ApprovalWhen, ...] = Field(
        (),
        description="When a person must approve in the Airflow UI: always; for the first champion (bootstrap); when an "
        "UNDECIDED is overridden (override); when the gain is less than small_gain; when a slice got worse. Never by default.",
    )
    small_gain: StrictFloat = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="A mean daily gain over the champion below this, in units of the gate's loss, counts as small.",
    )
    approvers: tuple[str, ...] = Field(
        (), description="Airflow users who may; with none named, anybody who may act on the DAG."
    )
    timeout_hours: StrictFloat = Field(12.0, gt=0, description="No answer within this time means no.")


class Override(Record):
    """Who may promote a challenger whose verdict is UNDECIDED."""

    allowed: tuple[str, ...] = Field(
        (),
        description="Users who may, with a reason; nobody by default. A FAIL, a failed smoke test or a wrong digest can never be overridden.",
    )


class Rollback(Record):
    """How the champion is watched once it serves, and when it is sent back without a person."""

    automatic: StrictBool = Field(
        default=False, description="Roll back without a person; otherwise only an alert is raised."
    )
    evidence: StrictFloat = Field(
        10.0,
        gt=1,
        allow_inf_nan=False,
        description="Roll back when the evidence (E) that the champion is worse than its predecessor in shadow reaches this.",
    )
    wrong_alarms_per_quarter: StrictFloat = Field(
        0.1,
        gt=0,
        lt=91,
        description="Of a streak of automatic refreshes, watched against the champion before it: false alarms a quarter.",
    )
    min_days: StrictInt = Field(5, ge=1, description="Fewer days of evidence than this never decide.")
    calibration: tuple[StrictFloat, StrictFloat] | None = Field(
        None,
        description="Circuit breaker: roll back at once when mean prediction over mean label of the newest day leaves these bounds.",
        examples=[[0.4, 2.5]],
    )
    base_rate: tuple[StrictFloat, StrictFloat] | None = Field(
        None,
        description="Circuit breaker: roll back at once when the champion's mean prediction on the newest day leaves these bounds.",
        examples=[[0.02, 0.9]],
    )
    min_rows: StrictInt = Field(100, ge=1, description="A day of fewer rows does not trip a circuit breaker.")

    @field_validator("calibration", "base_rate")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("expected two numbers, the lower bound first")
        return value


class Retention(Record):
    """What `ratchet prune` keeps beyond what champions, past and present, and the ledger need."""

    versions: StrictInt = Field(
        30, ge=0, description="The newest so many model versions, with their runs and snapshots."
    )
    days: StrictInt = Field(90, ge=0, description="Everything of nights whose cutoff is no older than this.")


class PipelineSpec(Record):
    """One model's continuous training."""

    name: Identifier = Field(
        description="The file's name without .yaml; the name of the model in MLflow and of the DAG."
    )
    description: str = Field(
        min_length=1, description="What the model is for; shown in Airflow, MLflow and the report."
    )
    owner: Owner = Field(description="Who answers for the model.")
    schedule: str | None = Field(
        "0 3 * * *",
        description="Cron expression of five fields, in UTC, for the nightly run; null for manual runs only.",
    )
    deadline_hours: StrictFloat = Field(
        6.0,
        gt=0,
        allow_inf_nan=False,
        description="So many hours after its scheduled time a night must have come to a decision; else `watchdog` raises an alert. "
        "The time that a person has to approve comes on top.",
    )
    start: date = Field(date(2024, 1, 1), description="First cutoff that a backfill may ask for.")
    tags: tuple[str, ...] = Field((), description="Tags of the DAG.")
    source: Source = Field(description="The data that is learnt from.")
    window: Window = Field(description="Which days a night reads.")
    validation: Validation = Field(description="The suite, and what happens to data that breaks it.")
    drift: Drift = Field(Drift(), description="How far the data may move before somebody hears of it.")
    features: Identifier = Field(
        description="`features/<features>.sql`, one query that DuckDB runs for training and scoring alike."
    )
    target: Target = Field(description="What is predicted.")
    training: Training = Field(Training(), description="How the booster is fitted.")
    segments: Segments | None = Field(None, description="One model per value of a column, beside the one for all rows.")
    league: League = Field(League(), description="Who scores each new day in shadow.")
    evaluation: Evaluation = Field(Evaluation(), description="What is looked at beyond the whole hold-out.")
    gates: tuple[Gate, ...] = Field(min_length=1, description="What a challenger must pass; all of them must.")
    approval: Approval = Field(Approval(), description="When a person stands between a PASS and the promotion.")
    override: Override = Field(Override(), description="Who may promote a challenger whose verdict is UNDECIDED.")
    rollback: Rollback = Field(Rollback(), description="How the champion is watched once it serves.")
    retention: Retention = Field(Retention(), description="What `ratchet prune` keeps beyond what is needed.")

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is not None and not _comes(value):
            raise ValueError(
                "expected a cron expression of five fields that comes to pass (minute, hour, day of month, month, "
                "day of week), such as 0 3 * * * for 03:00 UTC every day, or null for manual runs only"
            )
        return value

    @model_validator(mode="after")
    def _gates_fit_task(self) -> PipelineSpec:
        for i, gate in enumerate(self.gates):
            for key, wrong in _misfits(self, gate):
                raise ValueError(f"gates[{i}].{key}: {wrong}")
        if not any(isinstance(gate, BoundGate) for gate in self.gates):
            raise ValueError(
                "gates: at least one gate of kind 'bound' is needed; without a champion nothing else could refuse a model"
            )
        return self

    @model_validator(mode="after")
    def _training_fits_task(self) -> PipelineSpec:
        task, training = self.target.task, self.training
        if training.class_weights is not None and task not in {"binary", "multiclass"}:
            raise ValueError(f"training.class_weights: a {task} task has no classes; half_life_days weighs rows by age")
        if training.monotone and task == "multiclass":
            raise ValueError(
                "training.monotone: of a multiclass task a feature can raise no class without lowering others; a binary task can be held to it"
            )
        if training.engine == "dask" and task == "ranking" and training.half_life_days is not None:
            raise ValueError("training.half_life_days: XGBoost weighs no lists on Dask; engine: local does")
        return self

    @model_validator(mode="after")
    def _watch_fits_task(self) -> PipelineSpec:
        bounds = [name for name in ("calibration", "base_rate") if getattr(self.rollback, name) is not None]
        if bounds and self.target.task not in {"binary", "regression"}:
            words = f"a {self.target.task} task has no single prediction to hold between bounds"
            raise ValueError(f"rollback.{bounds[0]}: {words}")
        if "slice_worse" in self.approval.when and not self.evaluation.slices:
            raise ValueError(
                "approval.when: slice_worse needs evaluation.slices, the columns by whose values is compared"
            )
        return self

    @model_validator(mode="after")
    def _search_has_days(self) -> PipelineSpec:
        tuning, window = self.training.tuning, self.window
        left = window.days - window.holdout_days - 1
        if tuning and tuning.days and tuning.days > left:
            raise ValueError(
                f"training.tuning.days: {tuning.days} leaves no day to fit on; of the {window.days} days of the window at most {left} can be scored on"
            )
        return self

    @model_validator(mode="after")
    def _asks_nobody_about_segments(self) -> PipelineSpec:
        asked = [when for when in self.approval.when if when in {"always", "bootstrap"}]
        if self.segments and asked:
            raise ValueError(
                f"segments: approval.when: {asked[0]} asks a person before each segment's first champion, and nobody can be asked for all of them in a "
                "night; leave it out, and let the gates decide"
            )
        return self

    @property
    def loss(self) -> Loss:
        """The loss by which champion and challenger are compared where no gate says which: the gates' own, else the task's first."""
        compared = [gate for kind in (EvidenceGate, ChampionGate) for gate in self.gates if isinstance(gate, kind)]
        return compared[0].loss if compared else LOSSES[self.target.task][0]

    @property
    def measuring(self) -> Measuring:
        """What metrics depend on besides labels and predictions."""
        looked, target = self.evaluation, self.target
        return Measuring(
            task=target.task,
            threshold=looked.threshold,
            top_k=looked.top_k,
            ndcg_at=looked.ndcg_at,
            quantiles=target.quantiles,
        )

    @property
    def shadows(self) -> int:
        """How many of the last challengers score a day: of those made before it there are ``league.size`` among them."""
        return self.league.size + self.window.label_delay_days if self.league.size else 0

    @property
    def wait_hours(self) -> float:
        """How long a night waits at most for its partitions to be complete; 0 where nothing says when they are."""
        tables = (self.source, *self.source.tables.values())
        return max((table.completion.wait_hours for table in tables if table.completion), default=0.0)

    def windows(self, cutoff: date) -> Windows:
        """Cut the night's days."""
        w = self.window
        return windows(
            cutoff, days=w.days, holdout_days=w.holdout_days, stop_days=w.stop_days, label_delay_days=w.label_delay_days
        )

    def side_span(self, table: SideTable, cutoff: date) -> Span:
        """Return the days of a side table that the night reads: up to the cutoff, never later."""
        whole = self.windows(cutoff).whole
        return Span(first=date.fromordinal(whole.first.toordinal() - table.days_before), last=whole.last)

    def reads(self, cutoff: date) -> dict[str, tuple[Table, Span]]:
        """Return every table that a night reads, with the days that it reads of it; ``rows`` is the one that is learnt from."""
        found: dict[str, tuple[Table, Span]] = {"rows": (self.source, self.windows(cutoff).whole)}
        found.update({name: (table, self.side_span(table, cutoff)) for name, table in self.source.tables.items()})
        return found


def _misfits(spec: PipelineSpec, gate: Gate) -> Iterator[tuple[str, str]]:
    """Yield each key of a gate that does not fit the rest of the spec, and why."""
    yield from _strange_to_task(spec, gate)
    slices = spec.evaluation.slices
    if isinstance(gate, BoundGate) and gate.slice and gate.slice.partition("=")[0] not in slices:
        yield "slice", f"{gate.slice!r} is not `column=value` with a column of evaluation.slices"
    if isinstance(gate, SlicesGate | SliceGapGate) and gate.column not in slices:
        yield "column", f"{gate.column!r} is no column of evaluation.slices; there are: {', '.join(slices) or 'none'}"
    days, holdout = spec.window.days, spec.window.holdout_days
    if isinstance(gate, ChampionGate | SlicesGate | BaselineGate) and gate.min_days > holdout:
        yield "min_days", f"{gate.min_days} days can never be had of window.holdout_days: {holdout}"
    if isinstance(gate, EvidenceGate) and gate.shadow_nights > spec.league.size:
        yield (
            "shadow_nights",
            f"{gate.shadow_nights} nights in shadow can never be had with league.size: {spec.league.size}",
        )
    if isinstance(gate, BaselineGate) and "recent" in gate.baselines and gate.recent_days > days - holdout:
        yield "recent_days", f"there are {days - holdout} days before the hold-out, found {gate.recent_days}"
    if isinstance(gate, DriftGate) and (both := sorted(set(gate.features) & set(gate.ignore))):
        yield "ignore", f"{', '.join(both)} cannot be looked at and ignored"


def _strange_to_task(spec: PipelineSpec, gate: Gate) -> Iterator[tuple[str, str]]:
    """Yield each key of a gate that says nothing of the spec's task, and why."""
    task = spec.target.task
    known = [*METRICS[task], *(f"business.{name}" for name in spec.evaluation.business if isinstance(gate, BoundGate))]
    if isinstance(gate, BoundGate | SliceGapGate) and gate.metric not in known:
        yield "metric", f"{gate.metric} is no metric of a {task} task; there are: {', '.join(known)}"
    if isinstance(gate, BoundGate) and gate.slice and gate.metric.startswith("business."):
        yield (
            "slice",
            "a metric of evaluation.business is computed over all rows; write the slice into its SQL, by FILTER (WHERE …)",
        )
    if isinstance(gate, ChampionGate | EvidenceGate | SlicesGate | BaselineGate) and gate.loss not in LOSSES[task]:
        yield "loss", f"{gate.loss} is no loss of a {task} task; there are: {', '.join(LOSSES[task])}"
    if isinstance(gate, CalibrationGate | BaseRateGate) and task == "ranking":
        yield (
            "kind",
            f"{gate.kind} says nothing of a ranking: its scores order the rows of a list, however high they are",
        )


_DECIDES_NOTHING = {
    "description",
    "owner",
    "schedule",
    "deadline_hours",
    "start",
    "tags",
    "approval",
    "override",
    "rollback",
    "retention",
    "segments",  # decides which models there are besides; of one of these it is part of the digest
}
_DECIDES_MODEL = {"source", "window", "validation", "target", "training"}
# What tuning finds decides the model, not how; nor does it matter where matrices lay, or how many threads went over them.
_FINDS_PARAMETERS = {"tuning", "memory_gib", "threads"}


class Pipeline(Record):
    """A spec with the suite and the SQL that it names: all that the user wrote."""

    spec: PipelineSpec
    suite: dict[str, Any]
    sql: str
    segment: str = ""  # slug of the value whose rows alone are learnt from and scored; empty: all rows

    @property
    def name(self) -> str:
        """The name of the model, its ledger and its nights: the pipeline's, or that of one of its segments."""
        return name_of(self.spec.name, self.segment)

    @property
    def min_rows(self) -> int:
        """With fewer rows to fit on the night is skipped."""
        return self.spec.segments.min_rows if self.segment and self.spec.segments else self.spec.window.min_rows

    def of_segment(self, slug: str) -> Pipeline:
        """Return the pipeline of one segment's model."""
        return self.model_copy(update={"segment": slug})

    @property
    def _which_rows(self) -> dict[str, Any]:
        """What a segment's digests hold besides."""
        return {"segment": [self.spec.segments.by if self.spec.segments else "", self.segment]} if self.segment else {}

    @property
    def digest(self) -> str:
        """The sha256 of everything in the spec, suite and SQL that a verdict can depend on."""
        content = self.spec.model_dump(mode="json", exclude=_DECIDES_NOTHING)
        return digest({"spec": content, "suite": self.suite, "sql": self.sql, **self._which_rows})

    @property
    def recipe(self) -> str:
        """The sha256 of what decides the model, apart from the data and the code: two nights of one recipe differ by these only."""
        content = self.spec.model_dump(
            mode="json", include=_DECIDES_MODEL, exclude={"validation": {"window"}, "training": _FINDS_PARAMETERS}
        )
        return digest({"spec": content, "suite": self.suite, "sql": self.sql, **self._which_rows})

    def with_params(self, params: dict[str, Any]) -> Pipeline:
        """Return the pipeline with other parameters of XGBoost's own than the spec's."""
        training = self.spec.training.model_copy(update={"params": params})
        return self.model_copy(update={"spec": self.spec.model_copy(update={"training": training})})

    @property
    def scope(self) -> str:
        """The sha256 of what the spec reads; nights of one scope share pins."""
        return digest(
            {"source": self.spec.source.model_dump(mode="json"), "window": self.spec.window.model_dump(mode="json")}
        )

    @property
    def suite_digest(self) -> str:
        """The sha256 of the suite, and of how its data is read."""
        source = self.spec.source.model_dump(
            mode="json", include={"format", "columns", "null_values", "delimiter", "partition"}
        )
        return digest({"suite": self.suite, "source": source})


def _comes(schedule: str) -> bool:
    """Say whether cron reads five fields and finds a next time; some that read well, such as February 30, never come."""
    from croniter import CroniterError, croniter  # noqa: PLC0415  needed only where a spec names a schedule

    try:
        croniter(schedule).get_next()
    except CroniterError:
        return False
    return len(schedule.split()) == 5  # noqa: PLR2004  croniter knows seconds, years and names such as @daily


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
    data = read_yaml(text, file)
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


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ratchet pipeline",
        **PipelineSpec.model_json_schema(),
    }
