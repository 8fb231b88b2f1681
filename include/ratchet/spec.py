"""The pipeline as data: what a user writes, read into frozen models with a description on every field."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from pydantic import Field, StrictFloat, field_validator, model_validator

from ratchet.domain.data_rules import Drift, Validation
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
from ratchet.domain.promotion_rules import Approval, League, Override, Retention, Rollback
from ratchet.domain.records import Record, digest
from ratchet.domain.segments import name_of
from ratchet.domain.source_rules import Identifier, SideTable, Source, Table, Window
from ratchet.domain.training_rules import Evaluation, Segments, Target, Training
from ratchet.domain.windows import Span, Windows, windows

if TYPE_CHECKING:
    from collections.abc import Iterator


class Owner(Record):
    """Who answers for the model."""

    name: str = Field(min_length=1, description="Person or team, shown as the owner of the DAG.")
    email: str | None = Field(None, description="Where to reach them.")


TAKEN = frozenset({"demo_feed", "freeze", "rollback", "thaw", "watchdog"})  # by DAGs that train nothing


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

    @field_validator("name")
    @classmethod
    def _has_a_dag(cls, value: str) -> str:
        if value in TAKEN:
            raise ValueError(
                f"there is a DAG {value} already, which comes with Ratchet; call the pipeline something else"
            )
        return value

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
                "gates: at least one gate of kind 'bound' is needed; the first model has no champion to be compared with"
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
# Counted up by a release that gives a setting which decides the model another default: no default stands in a recipe's digest.
_DEFAULTS = 1


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
        """The sha256 of what decides the model, apart from the data and the code: two nights of one recipe differ by these only.

        What stands at its default is left out: a release that adds a setting does not make another recipe of every pipeline.
        """
        content = self.spec.model_dump(
            mode="json",
            include=_DECIDES_MODEL,
            exclude={"validation": {"window"}, "training": _FINDS_PARAMETERS},
            exclude_defaults=True,
        )
        told = {section: settings for section, settings in content.items() if settings}
        how = {"spec": told, "defaults": _DEFAULTS, "suite": self.suite, "sql": self.sql}
        return digest({**how, **self._which_rows})

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


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ratchet pipeline",
        **PipelineSpec.model_json_schema(),
    }
