"""Gates: rules of the spec, and the total function that turns evidence into a verdict.

The day is the unit: rows of one day share their weather, so intervals and tests are made over daily means, never over
rows. Two comparisons with the champion are offered: the classic one on the hold-out, by a t interval over days, and the
anytime-valid e-process over the league's stream of daily differences (Choe & Ramdas, arXiv 2110.00115; bets after
Waudby-Smith & Ramdas, arXiv 2010.09686), which may be looked at every night without paying for it.
"""

from __future__ import annotations

from enum import StrEnum
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt, model_validator

from ratchet.domain.records import Record
from ratchet.domain.statistics import Evidence, e_process, lower_and_upper

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
    """The recipe must be proved better than the champion over the league's days, validly at any time."""

    kind: Literal["evidence"] = Field(description="The anytime-valid comparison over the league's stream of days.")
    loss: Loss = Field(description="The row loss whose daily differences are the evidence.")
    margin: StrictFloat = Field(
        0.0, ge=0, allow_inf_nan=False, description="How much worse, in units of the loss, still counts as no worse."
    )
    wrong_promotions_per_quarter: StrictFloat = Field(
        0.05,
        gt=0,
        lt=1,
        description="The bound on promotions of challengers that are no better; 1/E must fall below it.",
    )
    min_days: StrictInt = Field(5, ge=1, description="Fewer days of evidence than this never decide.")

    @property
    def name(self) -> str:
        """Say the rule in words."""
        return f"{self.loss} better than the champion's over the league's days"


Gate = Annotated[BoundGate | ChampionGate | EvidenceGate, Field(discriminator="kind")]


class Outcome(StrEnum):
    """How a check or a verdict came out."""

    PASS = "PASS"  # noqa: S105  an outcome, no password
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    NOT_APPLICABLE = "NOT_APPLICABLE"  # of a check only: there is no champion to compare with


class Check(Record):
    """The outcome of one gate on one run."""

    name: str
    outcome: Outcome
    reason: str
    value: float | None = None
    limit: float | None = None


class Verdict(Record):
    """The whole decision; PASS only when every check that applies has passed."""

    outcome: Outcome
    bootstrap: bool
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not a PASS, or what passed."""
        against = tuple(f"{c.name}: {c.reason}" for c in self.checks if c.outcome in {Outcome.FAIL, Outcome.UNDECIDED})
        return against or tuple(f"{c.name}: {c.reason}" for c in self.checks if c.outcome is Outcome.PASS)


class MetricValue(Record):
    """A metric of one model on one set of rows."""

    value: float | None
    rows: int


class DayLoss(Record):
    """Mean losses of both models over the rows of one day that neither has seen."""

    day: str  # ISO date
    rows: int
    champion: float
    challenger: float


class CaseForPromotion(Record):
    """Everything that a verdict may look at."""

    metrics: dict[str, MetricValue]  # of the challenger on the hold-out: "auc", or "auc[origin=JFK]"
    champion: bool  # whether there is one
    champion_problem: str | None = None  # why the champion could not be scored
    paired: dict[str, tuple[DayLoss, ...]] = {}  # by loss: hold-out days that neither model has seen
    league: dict[str, tuple[Evidence, ...]] = {}  # by loss: this reign's daily differences, oldest first
    smoke: Check | None = None  # whether the registered artifact, loaded afresh, gives the evaluated predictions


def judge(case: CaseForPromotion, gates: tuple[Gate, ...]) -> Verdict:
    """Turn evidence into a verdict. Total: every input gives one, nothing raises, and nothing passes by accident."""
    checks = [_check(gate, case) for gate in gates]
    checks.append(
        case.smoke
        or Check(name="smoke test", outcome=Outcome.UNDECIDED, reason="the registered artifact was not tried")
    )
    outcomes = {check.outcome for check in checks}
    if checks[-1].outcome is not Outcome.PASS:
        outcomes.add(Outcome.UNDECIDED)  # no other check makes up for an artifact that was not tried
    bound = any(isinstance(gate, BoundGate) for gate in gates)
    if not bound and not case.champion:
        reason = "no champion yet, and no gate of kind 'bound' that could speak for the first one"
        checks.append(Check(name="bootstrap", outcome=Outcome.UNDECIDED, reason=reason))
        outcomes.add(Outcome.UNDECIDED)
    if (
        case.champion and case.champion_problem
    ):  # also where no gate compares with it: what cannot be read is not replaced
        checks.append(Check(name="champion", outcome=Outcome.UNDECIDED, reason=case.champion_problem))
        outcomes.add(Outcome.UNDECIDED)
    if Outcome.FAIL in outcomes:
        outcome = Outcome.FAIL
    elif Outcome.UNDECIDED in outcomes or all(check.outcome is not Outcome.PASS for check in checks[: len(gates)]):
        outcome = Outcome.UNDECIDED
    else:
        outcome = Outcome.PASS
    return Verdict(outcome=outcome, bootstrap=not case.champion, checks=tuple(checks))


def _check(gate: BoundGate | ChampionGate | EvidenceGate, case: CaseForPromotion) -> Check:
    if isinstance(gate, BoundGate):
        return _bound(gate, case)
    if not case.champion:
        return Check(name=gate.name, outcome=Outcome.NOT_APPLICABLE, reason="no champion yet: this is the bootstrap")
    if case.champion_problem:
        return Check(
            name=gate.name,
            outcome=Outcome.UNDECIDED,
            reason=f"the champion cannot be compared: {case.champion_problem}",
        )
    return _paired(gate, case) if isinstance(gate, ChampionGate) else _evidence(gate, case)


def _bound(gate: BoundGate, case: CaseForPromotion) -> Check:
    found = case.metrics.get(f"{gate.metric}[{gate.slice}]" if gate.slice else gate.metric)
    limit = gate.at_least if gate.at_least is not None else gate.at_most

    def check(outcome: Outcome, reason: str, value: float | None = None) -> Check:
        return Check(name=gate.name, outcome=outcome, reason=reason, value=value, limit=limit)

    if limit is None or not isfinite(limit):
        return check(Outcome.UNDECIDED, "the bound is not a finite number")
    if found is None or found.value is None:
        return check(Outcome.UNDECIDED, "the metric could not be computed on these rows")
    if not isfinite(found.value):
        return check(Outcome.FAIL, f"the metric is {found.value}, not a finite number", found.value)
    if found.rows < gate.min_rows:
        return check(Outcome.UNDECIDED, f"only {found.rows} rows, at least {gate.min_rows} are needed", found.value)
    good = found.value >= limit if gate.at_least is not None else found.value <= limit
    return check(Outcome.PASS if good else Outcome.FAIL, f"{found.value:.4f} over {found.rows} rows", found.value)


def _paired(gate: ChampionGate, case: CaseForPromotion) -> Check:
    told = sorted((d for d in case.paired.get(gate.loss, ()) if d.rows > 0), key=lambda d: d.day)
    days = {d.day: d for d in told}
    differences = [d.champion - d.challenger for d in days.values()]

    def check(outcome: Outcome, reason: str, value: float | None = None) -> Check:
        return Check(name=gate.name, outcome=outcome, reason=reason, value=value, limit=-gate.margin)

    if not all(isfinite(x) for x in (gate.margin, *differences)):
        return check(Outcome.UNDECIDED, "the margin, or a daily loss, is not a finite number")
    if any(d != days[d.day] for d in told):
        return check(Outcome.UNDECIDED, "a day is told in two ways")
    if len(differences) < gate.min_days:
        return check(
            Outcome.UNDECIDED, f"{len(differences)} days that neither model has seen, {gate.min_days} are needed"
        )
    mean, low, high = lower_and_upper(differences, gate.confidence)
    if not all(isfinite(x) for x in (mean, low, high)):
        return check(Outcome.UNDECIDED, "the daily differences are too large to compare")
    reason = f"champion minus challenger {mean:+.5f}, {gate.confidence:.0%} one-sided bounds [{low:+.5f}, {high:+.5f}] over {len(differences)} days"
    outcome = Outcome.PASS if low >= -gate.margin else Outcome.FAIL if high < -gate.margin else Outcome.UNDECIDED
    return check(outcome, reason, mean)


def _evidence(gate: EvidenceGate, case: CaseForPromotion) -> Check:
    alpha = gate.wrong_promotions_per_quarter
    state = e_process(case.league.get(gate.loss, ()), margin=gate.margin)

    def check(outcome: Outcome, reason: str) -> Check:
        return Check(name=gate.name, outcome=outcome, reason=reason, value=state.better, limit=1 / alpha)

    if state.problem:
        return check(Outcome.UNDECIDED, state.problem)
    nights = f", about {state.nights_left(alpha)} more nights at this rate" if state.nights_left(alpha) else ""
    reason = f"E = {state.better:.2f} of {1 / alpha:.0f} after {state.days} days"
    if state.days < gate.min_days:
        return check(Outcome.UNDECIDED, f"{reason}; at least {gate.min_days} days are needed")
    if state.better >= 1 / alpha:
        return check(Outcome.PASS, reason)
    if state.worse >= 1 / alpha:
        return check(Outcome.FAIL, f"{reason}; the challengers are worse (E = {state.worse:.2f} for worse)")
    return check(Outcome.UNDECIDED, reason + nights)
