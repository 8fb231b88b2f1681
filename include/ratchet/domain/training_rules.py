"""What a spec asks of its models: what is predicted, how it is fitted and tuned, for whom, and what is looked at."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictBool, StrictFloat, StrictInt, Tag, field_validator, model_validator

from ratchet.domain.gates import Baseline
from ratchet.domain.models import Task
from ratchet.domain.records import Record

_MEDIAN = (0.1, 0.5, 0.9)


class Target(Record):
    """What is predicted."""

    task: Task = Field(description="binary, multiclass, regression, quantile or ranking.")
    sql: str = Field(
        min_length=1,
        description="SQL expression over all columns of the source; NULL where a row has no label. Of a ranking: how relevant the row is, 0 or more.",
        examples=["arr_delay >= 15"],
    )
    quantiles: tuple[Annotated[StrictFloat, Field(gt=0, lt=1)], ...] = Field(
        (), description="Of a quantile task: which quantiles are predicted, in order; by default 0.1, 0.5 and 0.9."
    )
    group: str | None = Field(
        None,
        min_length=1,
        description="Of a ranking: SQL expression of the list (search, race, session) that a row stands in; a list lies in one day, and a row without "
        "one has no label.",
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_quantiles(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("task") == "quantile" and not data.get("quantiles"):
            return {**data, "quantiles": _MEDIAN}
        return data

    @model_validator(mode="after")
    def _fits_task(self) -> Target:
        if self.quantiles and self.task != "quantile":
            raise ValueError(f"quantiles: a {self.task} task has none; task: quantile does")
        if list(self.quantiles) != sorted(set(self.quantiles)):
            raise ValueError("quantiles: expected each once, the smallest first")
        if (self.group is not None) != (self.task == "ranking"):
            words = (
                "a ranking needs it: the list that a row stands in"
                if self.task == "ranking"
                else f"a {self.task} task has none"
            )
            raise ValueError(f"group: {words}")
        return self


class Range(Record):
    """Numbers from one to another that a trial may draw."""

    low: StrictFloat | StrictInt = Field(description="The least value.")
    high: StrictFloat | StrictInt = Field(description="The greatest value.")
    log: StrictBool = Field(default=False, description="Draw evenly over magnitudes; the least value is then above 0.")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be less than high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low} must be above 0 where log is true")
        if isinstance(self.low, int) != isinstance(self.high, int):
            raise ValueError("low and high: write both as whole numbers, or both with a decimal point")
        return self


class Choices(Record):
    """Values of which a trial may draw one."""

    choices: tuple[Any, ...] = Field(min_length=1, description="The values.")


def _drawn(given: Any) -> str:
    return (
        "of_choices" if isinstance(given, Choices) or (isinstance(given, dict) and "choices" in given) else "of_range"
    )


Drawn = Annotated[Annotated[Range, Tag("of_range")] | Annotated[Choices, Tag("of_choices")], Discriminator(_drawn)]
SPACE: dict[str, Range | Choices] = {
    "eta": Range(low=0.01, high=0.3, log=True),
    "max_depth": Range(low=3, high=10),
    "min_child_weight": Range(low=1.0, high=300.0, log=True),
    "subsample": Range(low=0.5, high=1.0),
    "colsample_bytree": Range(low=0.4, high=1.0),
    "reg_lambda": Range(low=0.01, high=30.0, log=True),
}


SEARCHABLE = [
    "eta",
    "learning_rate",
    "gamma",
    "min_split_loss",
    "max_depth",
    "min_child_weight",
    "max_delta_step",
    "subsample",
    "sampling_method",
    "colsample_bytree",
    "colsample_bylevel",
    "colsample_bynode",
    "reg_lambda",
    "lambda",
    "reg_alpha",
    "alpha",
    "tree_method",
    "scale_pos_weight",
    "grow_policy",
    "max_leaves",
    "num_parallel_tree",
    "max_cat_to_onehot",
    "max_cat_threshold",
    "booster",
    "rate_drop",
    "skip_drop",
    "one_drop",
    "sample_type",
    "normalize_type",
    "tweedie_variance_power",
    "huber_slope",
    "lambdarank_pair_method",
    "lambdarank_num_pair_per_sample",
    "base_score",
]
_SAME = {"learning_rate": "eta", "min_split_loss": "gamma", "lambda": "reg_lambda", "alpha": "reg_alpha"}


class Tuning(Record):
    """When and how parameters are searched. Between two searches those of the champion are used."""

    every_days: StrictInt | None = Field(
        28, ge=1, description="Search again so many days after the last search; null: on drift only."
    )
    on_drift: StrictBool = Field(default=True, description="Search too when the data has moved, as `drift` finds it.")
    trials: StrictInt = Field(
        30, ge=1, description="The most trials of a search; the parameters of the champion are the first."
    )
    minutes: StrictFloat = Field(
        30.0, gt=0, allow_inf_nan=False, description="No trial is begun after this; those that run are finished."
    )
    parallel: StrictInt = Field(
        1, ge=1, description="Trials that run at once; the threads of the fit are shared out among them."
    )
    pruning: StrictBool = Field(
        default=True, description="Give a trial up that falls behind the median of those before it."
    )
    patience_days: StrictInt = Field(
        14,
        ge=1,
        description="So many days what was found may try to be promoted; then the champion's parameters are used again.",
    )
    days: StrictInt | None = Field(
        None,
        ge=1,
        description="Score trials on so many days before the hold-out, and fit them to the days before these; by default window.stop_days.",
    )
    space: dict[str, Drawn] = Field(
        SPACE, min_length=1, description="XGBoost's parameters to search: `{low, high, log}` or `{choices}`."
    )

    @field_validator("space")
    @classmethod
    def _searchable(cls, value: dict[str, Range | Choices]) -> dict[str, Range | Choices]:
        for key in value:
            if key in OURS:
                raise ValueError(f"{key} is set by {OURS[key]}")
            if key == "max_bin":
                raise ValueError(
                    "max_bin is not searched, because trials share their matrices; set it in training.params"
                )
            if key not in SEARCHABLE:
                near = get_close_matches(key, SEARCHABLE, 1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"{key!r} is no parameter of XGBoost's that is searched{meant} There are: {', '.join(SEARCHABLE)}"
                )
        if len({_SAME.get(key, key) for key in value}) < len(value):
            raise ValueError("a parameter stands there under two of its names")
        return value


class Training(Record):
    """How the booster is fitted."""

    rounds: StrictInt = Field(500, ge=1, description="The most boosting rounds.")
    early_stopping_rounds: StrictInt = Field(
        30, ge=1, description="Stop after so many rounds without a better score on the stop days."
    )
    seed: StrictInt = Field(0, ge=0, description="Seed of everything random in the fit.")
    threads: StrictInt | None = Field(
        None,
        ge=1,
        description="Threads of the fit; by default as many as this machine lets the process use. The model's bytes do not depend on them.",
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="Where to fit: cuda is the GPU; of several, the one that CUDA_VISIBLE_DEVICES names."
    )
    engine: Literal["local", "dask"] = Field(
        "local", description="local: in this process; dask: on the Dask cluster whose scheduler RATCHET_DASK names."
    )
    memory_gib: StrictFloat | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Beyond this much for its matrices the fit keeps them on disk (external memory): slower, not worse. By default half of RATCHET_MEMORY_GIB.",
    )
    refit: StrictBool = Field(
        default=False,
        description="Once evaluated, fit again on all days up to the hold-out's last, with as many rounds as early stopping kept: that model serves.",
    )
    class_weights: Literal["balanced"] | dict[str, Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]] | None = (
        Field(
            None,
            description="Weights of classes in the fit: balanced, so that all weigh the same together, or by class (`'1': 4.0`; others 1); by "
            "default all rows count the same.",
        )
    )
    half_life_days: StrictFloat | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="A row so many days older than the last day of the fit counts half in it; by default all count the same.",
    )
    monotone: dict[str, Literal["increasing", "decreasing"]] = Field(
        {}, description="Features by which a prediction may only rise, or only fall."
    )
    params: dict[str, Any] = Field({}, description="XGBoost's own parameters: max_depth, eta, subsample …")
    tuning: Tuning | None = Field(None, description="Search for better parameters when it is due; by default never.")

    @field_validator("class_weights", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """Let classes be written as YAML reads them: 1 and true are the class '1'."""
        if value is not None and value != "balanced" and not isinstance(value, dict):
            raise ValueError(
                f"found {str(value)[:50]!r}; expected balanced, or classes with their weights, such as {{late: 4.0}}"
            )
        return (
            {str(int(k)) if isinstance(k, int) else k: v for k, v in value.items()}
            if isinstance(value, dict)
            else value
        )

    @field_validator("params")
    @classmethod
    def _ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        named: dict[str, str] = {}
        for key, given in value.items():
            if key in OURS:
                raise ValueError(f"{key} is set by {OURS[key]}")
            if isinstance(given, float) and not math.isfinite(given):
                raise ValueError(f"{key}: expected a finite number, found {given}; XGBoost would learn nothing with it")
            if (other := named.setdefault(_SAME.get(key, key), key)) != key:
                raise ValueError(f"{key} is called {other} there too; XGBoost would use one of both")
        return value

    @model_validator(mode="after")
    def _searches_theirs(self) -> Training:
        for key in self.tuning.space if self.tuning else ():
            for other in self.params:
                if key != other and _SAME.get(key, key) == _SAME.get(other, other):
                    raise ValueError(f"tuning.space: {key} is called {other} in training.params; use one name in both")
        return self


OURS = {
    "seed": "training.seed",
    "nthread": "training.threads",
    "n_jobs": "training.threads",
    "device": "training.device",
    "objective": "target.task",
    "num_class": "target.task",
    "quantile_alpha": "target.quantiles",
    "random_state": "training.seed",
    "monotone_constraints": "training.monotone",
}


class Segments(Record):
    """One model for each value of a column, beside the one for all rows."""

    by: str = Field(
        min_length=1,
        description="A feature column; each value that it has in the window is a segment.",
        examples=["origin"],
    )
    min_rows: StrictInt = Field(
        1000,
        ge=1,
        description="A segment of fewer rows to fit on has no model of its own: the global champion serves it.",
    )
    most: StrictInt = Field(1000, ge=1, description="The most segments; those of most rows come first.")
    skip: tuple[str, ...] = Field((), description="Values that get no model of their own.")
    per_task: StrictInt = Field(
        1,
        ge=1,
        description="So many segments' nights are run one after the other by one mapped task in Airflow: more of them in each spare its start.",
    )


class Evaluation(Record):
    """What is looked at beyond the whole hold-out."""

    slices: tuple[str, ...] = Field((), description="Feature columns by whose values metrics are also given.")
    threshold: StrictFloat = Field(
        0.5,
        ge=0,
        le=1,
        description="Of a binary task: predictions from here on are acted on; precision and recall are meant there.",
    )
    top_k: StrictInt = Field(
        3, ge=1, description="Of a multiclass task: a label among the k likeliest counts as found."
    )
    ndcg_at: StrictInt = Field(10, ge=1, description="Of a ranking: how far down a list is looked at.")
    baselines: tuple[Baseline, ...] = Field(
        ("average", "recent", "linear"),
        min_length=1,
        description="Which of the baselines a challenger must beat on the hold-out, by the loss of the comparison; all are computed and shown every "
        "night. A gate of kind baseline can ask for more: a margin, or a proof.",
    )
    business: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")], str] = Field(
        {},
        description="Metrics of one's own by name: a SQL aggregate over the hold-out's predictions, with the columns `label`, `prediction`, `dt` and "
        "the features. Computed for champion and challenger alike.",
        examples=[{"cost_per_flight": "avg(CASE WHEN prediction >= 0.3 THEN 5 WHEN label = 1 THEN 40 ELSE 0 END)"}],
    )
