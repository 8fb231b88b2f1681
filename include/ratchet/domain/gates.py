"""Gates: the rules of the spec that a challenger must pass.

The day is the unit: rows of one day share their weather, so intervals and tests are made over daily means, never over
rows. Two comparisons with the champion are offered: the classic one on the hold-out, by a t interval over days, and the
anytime-valid e-process over the league's stream of daily differences (Choe & Ramdas, arXiv 2110.00115; bets after
Waudby-Smith & Ramdas, arXiv 2010.09686), which may be looked at every night without paying for it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Discriminator, Field, StrictBool, StrictFloat, StrictInt, Tag, field_validator, model_validator

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratchet.domain.models import Task

Loss = Literal["log_loss", "brier", "zero_one", "squared_error", "absolute_error", "pinball", "ndcg_loss"]
Metric = Literal[
    "auc",
    "pr_auc",
    "log_loss",
    "brier",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "rmse",
    "mae",
    "r2",
    "calibration",
    "pinball",
    "coverage",
    "quantile_error",
    "ndcg",
    "mrr",
    "precision",
    "width",
    "recall",
    "f1",
    "alert_rate",
    "top_k",
]
Own = Annotated[str, Field(pattern=r"^business\.[a-z][a-z0-9_]{0,62}$")]  # a metric of evaluation.business
Baseline = Literal["average", "recent", "linear"]
RECENT_DAYS = 7  # that the baseline `recent` looks back where no gate says otherwise: each weekday once

LOSSES: dict[Task, tuple[Loss, ...]] = {
    "binary": ("log_loss", "brier", "zero_one"),
    "multiclass": ("log_loss", "brier", "zero_one"),
    "regression": ("squared_error", "absolute_error"),
    "quantile": ("pinball",),
    "ranking": ("ndcg_loss",),
}
METRICS: dict[Task, tuple[Metric, ...]] = {
    "binary": (
        "auc",
        "pr_auc",
        "log_loss",
        "brier",
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "calibration",
        "precision",
        "recall",
        "f1",
        "alert_rate",
    ),
    "multiclass": ("log_loss", "brier", "accuracy", "balanced_accuracy", "macro_f1", "top_k"),
    "regression": ("rmse", "mae", "r2"),
    "quantile": ("pinball", "coverage", "width", "quantile_error", "mae"),
    "ranking": ("ndcg", "mrr", "precision"),
}


def in_order(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return metrics in the order of their task, others after them: who hands a record on may lose theirs, as PostgreSQL's JSONB does.

    The task is the one that has most of the names: tasks share names, and order them each in its own way.
    """
    known = max(METRICS.values(), key=lambda names: len(metrics.keys() & set(names)))
    return dict(sorted(metrics.items(), key=lambda item: known.index(item[0]) if item[0] in known else len(known)))


def baseline_key(baseline: Baseline, recent_days: int = RECENT_DAYS) -> str:
    """Name a baseline among those that were computed."""
    return f"recent {recent_days}" if baseline == "recent" else baseline


def _whose(name: object) -> str:
    return "own" if str(name).startswith("business.") else "metric"


class BoundGate(Record):
    """The challenger's own metric on the hold-out must stay on the right side of a bound: FAIL, which nobody overrides."""

    kind: Literal["bound"] = Field(description="An absolute bound on one metric of the challenger.")
    metric: Annotated[Annotated[Metric, Tag("metric")] | Annotated[Own, Tag("own")], Discriminator(_whose)] = Field(
        description="Which metric, computed on the hold-out; business.NAME is one of evaluation.business."
    )
    at_least: StrictFloat | None = Field(None, allow_inf_nan=False, description="The metric must not be below this.")
    at_most: StrictFloat | None = Field(None, allow_inf_nan=False, description="The metric must not be above this.")
    slice: str | None = Field(None, description="A slice as `column=value`; without it, all rows.")
    min_rows: StrictInt = Field(100, ge=1, description="With fewer hold-out rows than this the gate cannot decide.")

    @model_validator(mode="after")
    def _one_bound(self) -> BoundGate:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give exactly one of at_least and at_most")
        return self

    @property
    def name(self) -> str:
        """Say the rule in words."""
        where = f" [{self.slice}]" if self.slice else ""
        side = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return f"{self.metric}{where} {side}"


class ChampionGate(Record):
    """The challenger must be no worse than the champion on hold-out days that neither has seen: FAIL where it is worse.

    By an interval over days, looked at anew each night: where challengers are no better this promotes 1.3 (28 days) to 2.5
    (7 days) of them a quarter, and up to 5.5 where days come in regimes; the evidence gate promotes 0.05.
    """

    kind: Literal["champion"] = Field(
        description="The classic comparison on the hold-out, by an interval over days. It is looked at every night, so it "
        "is often wrong: of challengers that are no better, 1.3 to 2.5 a quarter are promoted, more with a margin."
    )
    loss: Loss = Field(description="The row loss whose daily means are compared; smaller is better.")
    margin: StrictFloat = Field(
        0.0, ge=0, allow_inf_nan=False, description="How much worse, in units of the loss, still counts as no worse."
    )
    confidence: StrictFloat = Field(0.95, gt=0.5, lt=1, description="One-sided confidence of the interval.")
    min_days: StrictInt = Field(5, ge=2, description="With fewer common unseen days the gate cannot decide.")

    @property
    def name(self) -> str:
        """Say the rule in words."""
        return f"{self.loss} no worse than the champion's by more than {self.margin:g}"


class EvidenceGate(Record):
    """The recipe must be proved better over days that its models had not seen, validly at any time."""

    kind: Literal["evidence"] = Field(
        description="The proof by evidence over days: it may be looked at every night, and what is undecided is carried on."
    )
    loss: Loss = Field(description="The row loss whose daily differences are the evidence; smaller is better.")
    margin: StrictFloat = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="How much worse, in units of the loss, still counts as no worse. 0: it must be better.",
    )
    wrong_promotions_per_quarter: StrictFloat = Field(
        0.05,
        gt=0,
        lt=1,
        description="How many promotions of what is no better are bearable in 91 nights. The proof (E) must reach 1 / this: 0.05 asks for 20.",
    )
    min_days: StrictInt = Field(5, ge=1, description="Fewer days of evidence than this never decide.")
    shadow_nights: StrictInt = Field(
        3,
        ge=1,
        description="Who is promoted by proof has scored at least so many days in shadow; league.size must not be smaller.",
    )
    lane: Literal["auto", "prove"] = Field(
        "auto",
        description="Of a challenger of the champion's own recipe. auto: once it is proved that refreshing beats holding, every "
        "night's refresh is promoted when its other gates pass. prove: every refresh is proved by itself.",
    )
    backfill_days: StrictInt = Field(
        28,
        ge=0,
        description="On its first night a recipe replays up to so many days of the window's past as evidence, each model fitted before "
        "the day that judges it, once in a recipe's life. 0: it waits for new days.",
    )
    fleet: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")] | None = Field(
        None,
        description="Name of a group of pipelines that share their wrong promotions; the proof is then e-BH over all of them.",
    )
    false_share: StrictFloat = Field(
        0.1, gt=0, lt=1, description="Of a fleet: the bearable share of wrong ones among its proved recipes."
    )

    @property
    def name(self) -> str:
        """Say the rule in words."""
        worse = f", or worse by at most {self.margin:g}" if self.margin else ""
        return f"{self.loss} proved better over days{worse}"


class SlicesGate(Record):
    """On no value of a column may the challenger be shown to be worse than the champion: FAIL, which nobody overrides.

    The losses of each value's days are compared as by the champion gate, and the chance of a mistake is shared among
    the values (Bonferroni; for the verdict the same as Holm, whose first step it is). Values with too little data are
    left out and listed, but one that ``values`` names leaves the gate UNDECIDED. Seven days show only a clear harm; with
    ``proven`` it is the absence of harm that must be shown, and what is open holds.
    """

    kind: Literal["slices"] = Field(description="No value of a column may get worse while the average gets better.")
    column: str = Field(description="A column of evaluation.slices.")
    loss: Loss = Field(description="The row loss whose daily means are compared; smaller is better.")
    margin: StrictFloat = Field(
        0.0, ge=0, allow_inf_nan=False, description="How much worse, in units of the loss, still counts as no worse."
    )
    confidence: StrictFloat = Field(
        0.95, gt=0.5, lt=1, description="That no value is called worse by chance, over all values together."
    )
    proven: StrictBool = Field(
        default=False,
        description="PASS only where every value is shown to be no worse by more than the margin; UNDECIDED while that is open. "
        "By default a value passes as long as it is not shown to be worse, which over a few days it seldom is.",
    )
    values: tuple[str, ...] = Field((), description="Values that must have enough data; UNDECIDED where one has not.")
    min_rows: StrictInt = Field(
        100, ge=1, description="Values with fewer rows that neither model has seen are left out."
    )
    min_days: StrictInt = Field(5, ge=2, description="Values with fewer common unseen days are left out.")

    @property
    def name(self) -> str:
        """Say the rule in words."""
        return f"{self.loss} on no {self.column} worse than the champion's by more than {self.margin:g}"


class SliceGapGate(Record):
    """A metric may differ only so much between the values of a column: FAIL, which nobody overrides.

    The gap is between the best and the worst value, as measured: noise widens it, so ``min_rows`` should not be small.
    """

    kind: Literal["slice_gap"] = Field(description="How far apart the values of a column may lie.")
    column: str = Field(description="A column of evaluation.slices.")
    metric: Metric = Field(description="Which metric of the challenger, computed on the hold-out for each value.")
    at_most: StrictFloat | None = Field(
        None, ge=0, allow_inf_nan=False, description="The largest gap between the best and the worst value."
    )
    margin: StrictFloat | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="How much wider than the champion's the gap may be, on rows that neither has seen.",
    )
    values: tuple[str, ...] = Field((), description="Values that must have enough data; UNDECIDED where one has not.")
    min_rows: StrictInt = Field(200, ge=1, description="Values with fewer hold-out rows are left out.")

    @model_validator(mode="after")
    def _some_bound(self) -> SliceGapGate:
        if self.at_most is None and self.margin is None:
            raise ValueError("give at_most, margin or both")
        return self

    @property
    def name(self) -> str:
        """Say the rule in words."""
        sides = [f"≤ {self.at_most:g}"] if self.at_most is not None else []
        sides += [f"≤ the champion's + {self.margin:g}"] if self.margin is not None else []
        return f"gap of {self.metric} between values of {self.column} {' and '.join(sides)}"


class BaselineGate(Record):
    """The challenger must beat models that a person could have written down: FAIL where it is shown not to.

    By an interval over hold-out days, as of the champion gate; UNDECIDED while the interval leaves it open.
    """

    kind: Literal["baseline"] = Field(description="A model that does not beat these is not worth serving.")
    loss: Loss = Field(description="The row loss whose daily means are compared; smaller is better.")
    baselines: tuple[Baseline, ...] = Field(
        ("average", "recent"),
        min_length=1,
        description="average: always the rate, mean or quantiles of the days before the hold-out; of a ranking, no order at all. recent: that of the "
        "newest recent_days of these. linear: a logistic or ridge regression on the same features, refitted each night (of a quantile task, plus the "
        "quantiles of its residuals).",
    )
    recent_days: StrictInt = Field(
        RECENT_DAYS, ge=1, description="Days that `recent` looks back; a week holds each weekday once."
    )
    margin: StrictFloat = Field(
        0.0, ge=0, allow_inf_nan=False, description="By how much, in units of the loss, each must be beaten at least."
    )
    confidence: StrictFloat = Field(0.95, gt=0.5, lt=1, description="One-sided confidence of the interval.")
    min_days: StrictInt = Field(5, ge=2, description="With fewer hold-out days the gate cannot decide.")

    @property
    def name(self) -> str:
        """Say the rule in words."""
        return f"{self.loss} better than that of {', '.join(self.baselines)} by at least {self.margin:g}"

    def key(self, baseline: Baseline) -> str:
        """Name one of its baselines among those that were computed."""
        return baseline_key(baseline, self.recent_days)


class CalibrationGate(Record):
    """On average the challenger must predict what came: FAIL outside the bounds, which nobody overrides.

    Of a multiclass task each class with enough rows must keep the bounds; of a quantile task, the share of labels at or
    below each quantile. A ranking has no such gate.
    """

    kind: Literal["calibration"] = Field(description="Mean prediction against what was observed on the hold-out.")
    at_least: StrictFloat = Field(
        0.8, ge=0, allow_inf_nan=False, description="Of a classification: least mean prediction over observed rate."
    )
    at_most: StrictFloat = Field(
        1.25, gt=0, allow_inf_nan=False, description="Of a classification: largest mean prediction over observed rate."
    )
    bias: StrictFloat = Field(
        0.25,
        gt=0,
        allow_inf_nan=False,
        description="Of a regression: largest difference of mean prediction and mean label, either way, in standard "
        "deviations of the training labels. Of a quantile q: of the share of labels at or below it and q, in units of "
        "sqrt(q (1 − q)), so that 0.25 allows 0.375 to 0.625 for the median and 0.825 to 0.975 for 0.9.",
    )
    min_rows: StrictInt = Field(100, ge=1, description="With fewer hold-out rows the gate cannot decide.")
    min_events: StrictInt = Field(
        30,
        ge=1,
        description="With fewer hold-out rows of the class a binary task is UNDECIDED, and a class of several is left out.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> CalibrationGate:
        return _in_order(self)

    @property
    def name(self) -> str:
        """Say the rule in words."""
        return (
            f"mean prediction over observed rate in [{self.at_least:g}, {self.at_most:g}], or bias ≤ {self.bias:g} sd"
        )


class BaseRateGate(Record):
    """On average the challenger must predict what its training days would make one expect: FAIL outside the bounds.

    It needs no label of the hold-out, so it also speaks where these are few. Of a multiclass task each class must keep the
    bounds; of a quantile task, the quantile nearest to the median. A ranking has no such gate.
    """

    kind: Literal["base_rate"] = Field(description="Mean prediction on the hold-out against the rate in training.")
    at_least: StrictFloat = Field(
        0.5, ge=0, allow_inf_nan=False, description="Of a classification: least mean prediction over training rate."
    )
    at_most: StrictFloat = Field(
        2.0, gt=0, allow_inf_nan=False, description="Of a classification: largest mean prediction over training rate."
    )
    bias: StrictFloat = Field(
        0.5,
        gt=0,
        allow_inf_nan=False,
        description="Of a regression: largest difference of mean prediction and mean training label, either way, in "
        "standard deviations of the training labels.",
    )
    min_rows: StrictInt = Field(100, ge=1, description="With fewer hold-out rows the gate cannot decide.")

    @model_validator(mode="after")
    def _ordered(self) -> BaseRateGate:
        return _in_order(self)

    @property
    def name(self) -> str:
        """Say the rule in words."""
        return (
            f"mean prediction over training rate in [{self.at_least:g}, {self.at_most:g}], or shift ≤ {self.bias:g} sd"
        )


class StabilityGate(Record):
    """Only so many decisions may flip when the challenger takes over: UNDECIDED above, so that a person looks.

    A flip is no error: it is a change that somebody may have to explain.
    """

    kind: Literal["stability"] = Field(description="How many decisions would change with the champion.")
    at_most: StrictFloat = Field(
        0.1, ge=0, le=1, description="The largest share of hold-out rows, scored by both, whose decision flips."
    )
    threshold: StrictFloat = Field(
        0.5, gt=0, lt=1, description="Of a binary task: the probability from which on the decision is yes."
    )
    tolerance: StrictFloat = Field(
        0.1,
        ge=0,
        allow_inf_nan=False,
        description="Of a regression or a quantile task: a prediction flips when it, or one of its quantiles, changes by more than this share "
        "of the champion's. Of a ranking, lists are counted: one flips when another row stands first.",
    )
    min_rows: StrictInt = Field(100, ge=1, description="With fewer rows that both have scored the gate cannot decide.")

    @property
    def name(self) -> str:
        """Say the rule in words."""
        return f"decisions that flip ≤ {self.at_most:.0%}"

    @property
    def key(self) -> str:
        """Say from when on two predictions are two decisions; the name of the share among those that were computed."""
        return f"threshold {self.threshold:g}, tolerance {self.tolerance:g}"


class DriftGate(Record):
    """The hold-out must look like what the challenger was trained on: UNDECIDED above, so that a person looks.

    By the population stability index over ten quantile bins of training, nulls being a bin of their own: an effect size,
    not a test, so that it does not grow with the number of rows.
    """

    kind: Literal["drift"] = Field(description="How far the newest days have moved from those of the fit.")
    at_most: StrictFloat = Field(
        0.25, gt=0, allow_inf_nan=False, description="The largest index of any feature; .1 is a little, .25 is a lot."
    )
    predictions_at_most: StrictFloat | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="The largest index of the predictions, hold-out against the days just before it; not looked at by default.",
    )
    features: tuple[str, ...] = Field((), description="Only these features; by default all of them.")
    ignore: tuple[str, ...] = Field(
        (), description="Features that are expected to move, such as the month or the temperature."
    )
    min_rows: StrictInt = Field(100, ge=1, description="With fewer hold-out rows the gate cannot decide.")

    @property
    def name(self) -> str:
        """Say the rule in words."""
        more = f", of predictions ≤ {self.predictions_at_most:g}" if self.predictions_at_most is not None else ""
        return f"drift (PSI) of {', '.join(self.features) or 'each feature'} ≤ {self.at_most:g}{more}"


class CostGate(Record):
    """Scoring may cost only so much: UNDECIDED above, because tonight's machine is not the one that serves.

    Measured in the fresh process that tries the registered artifact.
    """

    kind: Literal["cost"] = Field(description="Size, latency and memory of scoring.")
    artifact_mib: StrictFloat | None = Field(
        None, gt=0, allow_inf_nan=False, description="The largest size of the model's files, in MiB."
    )
    latency_ms: StrictFloat | None = Field(
        None, gt=0, allow_inf_nan=False, description="The longest time for scoring 1,000 rows, in ms (median of five)."
    )
    memory_mib: StrictFloat | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="The most memory of the scoring process, libraries included, in MiB.",
    )

    @model_validator(mode="after")
    def _some_bound(self) -> CostGate:
        if not self.bounds:
            raise ValueError("give at least one of artifact_mib, latency_ms and memory_mib")
        return self

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are given, by what they bound."""
        given = {"artifact_mib": self.artifact_mib, "latency_ms": self.latency_ms, "memory_mib": self.memory_mib}
        return {name: bound for name, bound in given.items() if bound is not None}

    @property
    def name(self) -> str:
        """Say the rule in words."""
        return "scoring costs " + ", ".join(f"{name} ≤ {bound:g}" for name, bound in self.bounds.items())


class HealthGate(Record):
    """The night's data must be in good health: UNDECIDED where it is not, so that a person looks."""

    kind: Literal["health"] = Field(description="Quarantine, warnings, missing labels and volume of the night's data.")
    quarantined_at_most: StrictFloat = Field(
        0.05, ge=0, le=1, description="The largest share of the window's days that was quarantined."
    )
    warnings_at_most: StrictInt | None = Field(
        None, ge=0, description="The most expectations of severity warning or info that failed; any number by default."
    )
    unlabelled_at_most: StrictFloat = Field(
        0.5, ge=0, le=1, description="The largest share of the window's rows without a label."
    )
    volume: tuple[StrictFloat, StrictFloat] = Field(
        (0.5, 2.0), description="Least and largest labelled rows of the newest day over those of the median day."
    )

    @field_validator("volume")
    @classmethod
    def _ratio(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not (0 <= value[0] < value[1] < inf):
            raise ValueError("expected two finite numbers, not negative, the smaller first")
        return value

    @property
    def name(self) -> str:
        """Say the rule in words."""
        warnings = f", warnings ≤ {self.warnings_at_most}" if self.warnings_at_most is not None else ""
        return (
            f"quarantined ≤ {self.quarantined_at_most:.0%}{warnings}, unlabelled ≤ {self.unlabelled_at_most:.0%}, "
            f"rows of the newest day {self.volume[0]:g} to {self.volume[1]:g} times the median"
        )


class AgeGate(Record):
    """A champion must have served for some time before it may be displaced: UNDECIDED before.

    Each turn costs those downstream something; this bounds how many there are.
    """

    kind: Literal["age"] = Field(description="How long the champion must have served.")
    min_days: StrictInt = Field(7, ge=1, description="Days from the cutoff that made the champion to tonight's.")

    @property
    def name(self) -> str:
        """Say the rule in words."""
        return f"the champion has served {self.min_days} days"


Bounded = TypeVar("Bounded", CalibrationGate, BaseRateGate)


def _in_order(gate: Bounded) -> Bounded:
    if gate.at_least >= gate.at_most:
        raise ValueError(f"at_least {gate.at_least:g} must be less than at_most {gate.at_most:g}")
    return gate


Gate = Annotated[
    BoundGate
    | ChampionGate
    | EvidenceGate
    | SlicesGate
    | SliceGapGate
    | BaselineGate
    | CalibrationGate
    | BaseRateGate
    | StabilityGate
    | DriftGate
    | CostGate
    | HealthGate
    | AgeGate,
    Field(discriminator="kind"),
]
