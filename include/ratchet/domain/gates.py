"""Gates: the rules of the spec that a challenger must pass.

The day is the unit: rows of one day share their weather, so intervals and tests are made over daily means, never over
rows. Two comparisons with the champion are offered: the classic one on the hold-out, by a t interval over days, and the
anytime-valid e-process over the league's stream of daily differences (Choe & Ramdas, arXiv 2110.00115; bets after
Waudby-Smith & Ramdas, arXiv 2010.09686), which may be looked at every night without paying for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt, model_validator

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from ratchet.domain.models import Task

Loss = Literal["log_loss", "brier", "zero_one", "squared_error", "absolute_error"]
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
]

LOSSES: dict[Task, tuple[Loss, ...]] = {
    "binary": ("log_loss", "brier", "zero_one"),
    "multiclass": ("log_loss", "brier", "zero_one"),
    "regression": ("squared_error", "absolute_error"),
}
METRICS: dict[Task, tuple[Metric, ...]] = {
    "binary": ("auc", "pr_auc", "log_loss", "brier", "accuracy", "balanced_accuracy", "macro_f1", "calibration"),
    "multiclass": ("log_loss", "brier", "accuracy", "balanced_accuracy", "macro_f1"),
    "regression": ("rmse", "mae", "r2"),
}


class BoundGate(Record):
    """The challenger's own metric on the hold-out must stay on the right side of a bound."""

    kind: Literal["bound"] = Field(description="An absolute bound on one metric of the challenger.")
    metric: Metric = Field(description="Which metric, computed on the hold-out.")
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
    """The challenger must be no worse than the champion on hold-out days that neither has seen."""

    kind: Literal["champion"] = Field(description="The classic comparison on the hold-out, by an interval over days.")
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


Gate = Annotated[BoundGate | ChampionGate | EvidenceGate, Field(discriminator="kind")]
