"""The case for a promotion: everything that a verdict may look at, as plain numbers."""

from __future__ import annotations

from ratchet.domain.checks import Check
from ratchet.domain.evidence import Trial
from ratchet.domain.findings import Finding
from ratchet.domain.records import Record


class MetricValue(Record):
    """A number about one model on one set of rows."""

    value: float | None
    rows: int


class DayLoss(Record):
    """Mean losses of both models over the rows of one day that neither has seen."""

    day: str  # ISO date
    rows: int
    champion: float
    challenger: float

    @property
    def other(self) -> float:
        """The mean loss of whom the challenger is compared with."""
        return self.champion


class BaselineDay(Record):
    """Mean losses of a baseline and of the challenger over the rows of one day that the challenger has not seen."""

    day: str  # ISO date
    rows: int
    baseline: float
    challenger: float

    @property
    def other(self) -> float:
        """The mean loss of whom the challenger is compared with."""
        return self.baseline


class MustBeat(Record):
    """Which baselines a challenger must beat, whatever the gates are, and by which loss."""

    loss: str
    baselines: tuple[str, ...]  # as they are called in ``baselines`` of a case; one that is missing there is not beaten


class SharedMetric(Record):
    """A metric of both models on the same rows, which neither has seen."""

    champion: float | None
    challenger: float | None
    rows: int


class Difference(Record):
    """What a metric of both models on the same rows, which neither has seen, differs by; None where one is undefined."""

    champion: float | None
    challenger: float | None
    difference: float | None  # challenger − champion
    low: float | None  # of its 95 % interval over days; None where there is none
    high: float | None
    rows: int
    days: int


class Level(Record):
    """How high the challenger predicts on the hold-out, and how high the truth is there and was in training.

    Means of the probability of one class, or of the value of a regression or a quantile; the truth of a quantile is that of the labels.
    """

    predicted: float
    observed: float
    training: float  # mean label of the days before the hold-out
    spread: float  # standard deviation of the labels in training
    rows: int  # of the hold-out
    events: int  # how many of them are of the class; all of them of a regression
    continuous: bool = False  # of a regression or a quantile
    quantile: float | None = None  # which, where it is one
    below: float | None = None  # share of the hold-out's labels that are at or below the predicted quantile


class Cost(Record):
    """What scoring costs, measured in the fresh process of the smoke test."""

    artifact_mib: float
    latency_ms: float  # for 1,000 rows
    memory_mib: float  # the most that the process held, libraries included


class DataHealth(Record):
    """What the night's data was like."""

    partitions: int  # days of the window with data
    quarantined: int  # of these
    warnings: int  # expectations that are not critical and failed
    rows: int  # of the window, after quarantine
    unlabelled: int  # of these
    newest_rows: int  # labelled, of the newest day
    usual_rows: float  # labelled, of the median day of the window


class CaseForPromotion(Record):
    """Everything that a verdict may look at."""

    metrics: dict[str, MetricValue]  # of the challenger on the hold-out: "auc", or "auc[origin=JFK]"
    champion: bool  # whether there is one
    champion_problem: str | None = None  # why the champion could not be scored
    paired: dict[str, tuple[DayLoss, ...]] = {}  # by loss: hold-out days that neither model has seen
    trial: Trial | None = None  # what the evidence gates weigh
    smoke: Check | None = None  # whether the registered artifact, loaded afresh, gives the evaluated predictions
    intervals: dict[str, tuple[float, float]] = {}  # 95 %, over days: "auc", "champion.auc", "gain.brier"
    slices: dict[str, dict[str, dict[str, tuple[DayLoss, ...]]]] = {}  # as ``paired``, by column, value and loss
    shared: dict[str, SharedMetric] = {}  # by "auc[origin=JFK]", on the rows that neither model has seen
    baselines: dict[str, dict[str, tuple[BaselineDay, ...]]] = {}  # by ``BaselineGate.key`` and loss
    must_beat: MustBeat | None = None  # None in the records of older versions, which asked for nothing of the kind
    levels: dict[str, Level] = {}  # by class or quantile; "" of a binary task or a regression
    flips: dict[str, MetricValue] = {}  # share of decisions that differ from the champion's, by ``StabilityGate.key``
    drift: dict[str, MetricValue] = {}  # by feature: population stability index of the hold-out against training
    prediction_drift: MetricValue | None = None  # likewise, against the days just before the hold-out
    cost: Cost | None = None
    health: DataHealth | None = None
    findings: tuple[Finding, ...] = ()  # of the checks over the window; one that holds is never passed over
    served_days: int | None = None  # from the cutoff by which the champion was judged to tonight's
