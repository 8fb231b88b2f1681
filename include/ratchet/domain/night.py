"""The night: what was asked for, what each step found, and how it ended. Tasks hand this record on; it holds references only."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from ratchet.domain.accounting import RowAccount
from ratchet.domain.alerts import Alert, of_night
from ratchet.domain.case import CaseForPromotion, Cost, Difference
from ratchet.domain.drifted import DriftResult
from ratchet.domain.explanations import Explanation
from ratchet.domain.findings import Finding
from ratchet.domain.gates import Loss, in_order
from ratchet.domain.models import ModelName, ModelVersion
from ratchet.domain.quarantine import QuarantinedPartition, QuarantinedRows
from ratchet.domain.records import Record, digest
from ratchet.domain.segments import parent_of
from ratchet.domain.snapshots import SnapshotDiff
from ratchet.domain.verdict import Verdict

StepName = Literal[
    "snapshot", "validate", "score", "tune", "train", "evaluate", "register", "gate", "approve", "promote", "report"
]
STEPS: tuple[StepName, ...] = (
    "snapshot",
    "validate",
    "score",
    "tune",
    "train",
    "evaluate",
    "register",
    "gate",
    "approve",
    "promote",
    "report",
)
Metrics = Annotated[dict[str, float | None], AfterValidator(in_order)]
NightOutcome = Literal["promoted", "refused", "undecided", "skipped", "rejected", "failed"]


class NightRequest(Record):
    """What was asked for."""

    pipeline: str
    cutoff: date
    dry_run: bool = False  # decide everything, change nothing
    repin: bool = False  # take what lies in the store now, although this night has a snapshot already
    override: bool = False  # promote although the verdict is UNDECIDED, where the spec lets the actor
    reason: str = ""
    actor: str = "schedule"
    overrides: dict[str, Any] = {}  # spec values by dotted key


class SnapshotResult(Record):
    """What was pinned."""

    digest: str
    partitions: int  # days of the source, with data
    objects: int
    bytes: int
    rows: int  # of the source, before anything is left out
    difference: SnapshotDiff
    reused: bool  # this night had pinned it before


class ValidateResult(Record):
    """What the suite said."""

    checked: int  # partitions validated tonight
    cached: int  # partitions validated before, under this suite
    quarantined: tuple[QuarantinedPartition, ...]
    warnings: tuple[str, ...]
    docs: str | None  # key of the Data Docs page of the newest partition
    rows: int  # that remain
    quarantined_rows: tuple[QuarantinedRows, ...] = ()  # of partitions that are used otherwise
    findings: tuple[Finding, ...] = ()  # of the checks over the window


class ScoredVersion(Record):
    """One version of the league on the newest labelled days."""

    version: int
    champion: bool
    days: tuple[str, ...]
    metrics: Metrics  # over those days
    problem: str | None = None


class DayScore(Record):
    """One version's losses on one day: what the evidence is made of."""

    day: date
    version: int
    run_key: str
    rows: int
    losses: dict[Loss, float]  # means over the day's rows
    predicted: float | None = None  # mean prediction, where there is one number a row
    observed: float | None = None  # mean label, likewise


class ScoreResult(Record):
    """What the league made of the newest labelled days, before anything learnt from them."""

    champion: ModelVersion | None
    reign: (
        int  # number of the ledger entry by which the champion serves: what the verdict will have been judged against
    )
    versions: tuple[ScoredVersion, ...]
    rows: int
    scores: tuple[DayScore, ...] = ()  # of these days; a dry run stores none of them
    rolled_back: str | None = None  # why the champion was sent back tonight, and to whom
    repaired: str | None = None  # what was wrong with the alias
    alerts: tuple[Alert, ...] = ()  # what a person should hear of
    drift: DriftResult | None = (
        None  # None where nobody could be asked, and in records of nights before it was looked for
    )


class TrialTold(Record):
    """One trial of a search."""

    number: int  # from 0
    params: dict[str, Any]  # of those that are searched
    origin: Literal["champion", "spec", "drawn"]
    state: Literal["finished", "pruned", "failed"]
    score: float | None = None  # mean over the days of the mean loss; smaller is better
    rounds: int = 0  # kept; of a pruned trial: after how many it was given up
    problem: str = ""  # why it failed
    seconds: float = 0.0
    mlflow_run_id: str = ""


class TuneResult(Record):
    """With which parameters tonight's challenger is fitted, and where they come from."""

    source: Literal["spec", "search", "champion"]
    params: dict[str, Any]  # all of XGBoost's own, as the fit takes them
    why: str  # in words: what was due, or why nothing was
    searched: bool = False  # whether tonight, or in an earlier attempt at this night
    search: str = ""  # key of the search that found the parameters
    mlflow_url: str | None = None  # of tonight's search
    trials: tuple[TrialTold, ...] = ()  # of tonight's search, in order
    days: tuple[str, ...] = ()  # on which its trials were scored
    seen_through: date | None = None  # the newest day that the search that found the parameters has met


class TrainResult(Record):
    """The challenger."""

    mlflow_run_id: str
    mlflow_url: str
    artifact_digest: str  # of the model that is registered
    rows: int
    rounds: int
    importance: dict[str, float]
    seen_through: date
    unlabelled: int
    dropped: int
    account: RowAccount | None = None  # None in records of nights before there was one
    findings: tuple[Finding, ...] = ()  # of the audit for leaks
    audited: tuple[str, ...] = ()  # what the audit has looked at, in words
    evaluated: str = ""  # digest of the fit that is evaluated, where another one serves: one on the hold-out's days too
    refitted: int = 0  # rows that that one has learnt from
    threads: int = 0  # of the fit; 0 in records of nights that did not say
    made_on: dict[str, str] = {}  # where not in the night's own process: what of the engine decides bytes

    @property
    def judged(self) -> tuple[str, ModelName]:
        """The digest of the fit that is evaluated, and under which name it was logged."""
        return (self.evaluated, "evaluated") if self.evaluated else (self.artifact_digest, "model")


class EvaluateResult(Record):
    """Both models on the same unseen rows."""

    case: CaseForPromotion
    rows: int
    challenger: Metrics  # on the hold-out
    champion: Metrics | None  # on the rows that it has not seen
    common_rows: int
    predictions: str  # key of the Parquet file
    predictions_sha256: str = ""  # of its bytes; "" in records of older versions
    explanation: Explanation | None = None  # None in records of nights before there was one
    differences: dict[str, Difference] = {}  # of metrics, on the rows that neither has seen: "auc", "auc[origin=JFK]"


class RegisterResult(Record):
    """The model version of this run key."""

    version: ModelVersion | None  # None in a dry run
    url: str | None
    smoke: str | None  # why the artifact does not give the evaluated predictions
    cost: Cost | None = None  # of scoring, where it does


class GateResult(Record):
    """The decision, and whom it is about."""

    verdict: Verdict
    candidate: ModelVersion | None = None  # whom a PASS promotes; tonight's challenger, or one that shadowed longer
    action: Literal["bootstrap", "promote", "refresh"] = "promote"
    certified: str = ""  # the recipe whose refreshing this verdict proves to beat holding


class ApproveResult(Record):
    """What a person said, where one was asked."""

    required: bool
    approved: bool
    why: tuple[str, ...] = ()  # which conditions of the spec asked for a person
    who: str = ""
    reason: str = ""


class PromoteResult(Record):
    """What happened to the ledger."""

    promoted: bool
    entry: int | None
    detail: str
    version: int | None = None  # who was promoted; not always tonight's challenger
    appended: bool = False  # whether it was this attempt that wrote the entry; an earlier one may have
    serves: bool = False  # whether this run's version is the one that serves now
    repaired: str | None = None  # what was wrong with the alias


class ReportResult(Record):
    """Where the night can be read."""

    page: str  # key
    record: str  # key


class MadeBy(Record):
    """By what a night was made, apart from its data and spec: who builds a version again needs the same."""

    commit: str = ""  # of the code; empty where it was installed without its history
    dirty: bool = False  # whether the working tree differed from it
    machine: str = ""  # kind of processor and system
    libraries: dict[str, str] = {}  # versions


class Ended(Record):
    """Why a night stopped before its end."""

    outcome: Literal["skipped", "rejected", "failed"]
    step: StepName
    reason: str
    detail: str


class OfAllRows(Record):
    """What a segment's night is told of the night of all rows: how the model is predicting that would serve the segment otherwise."""

    predictions: str  # key of the Parquet file
    sha256: str  # of its bytes


class Night(Record):
    """Everything that is known of one night so far."""

    request: NightRequest
    started: str = ""  # ISO 8601, UTC; for people, no rule looks at it
    run_key: str | None = None
    spec_digest: str = ""
    recipe_spec: str = ""  # the part of the spec that decides the model; from tune on with the parameters that it chose
    code_digest: str = ""
    made_by: MadeBy = MadeBy()
    of_all: OfAllRows | None = None  # of a segment's night; None where it was run alone, or by an older version
    snapshot: SnapshotResult | None = None
    validate_: ValidateResult | None = None
    score: ScoreResult | None = None
    tune: TuneResult | None = None  # None in records of nights before there was the step
    train: TrainResult | None = None
    evaluate: EvaluateResult | None = None
    register_: RegisterResult | None = None
    gate: GateResult | None = None
    approve: ApproveResult | None = None
    promote: PromoteResult | None = None
    report: ReportResult | None = None
    ended: Ended | None = None
    seconds: dict[str, float] = {}  # by step

    @property
    def rows(self) -> int | None:
        """How many rows the night has to learn from: those that landed in the window; of a segment those of them that are its own."""
        account = self.train.account if self.train else None
        if account and parent_of(self.request.pipeline) != self.request.pipeline:
            return account.landed
        return self.snapshot.rows if self.snapshot else None

    @property
    def recipe(self) -> str:
        """What makes two challengers of different nights the same in all but their data."""
        return digest([self.recipe_spec, self.code_digest])

    def result(self, step: StepName) -> Record | None:
        """Return what a step found, if it has run."""
        found: Record | None = getattr(self, _FIELD.get(step, step))
        return found

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the checks over the window have found."""
        steps = (self.validate_, self.score.drift if self.score else None, self.train)
        return tuple(finding for step in steps if step for finding in step.findings)

    def with_result(self, step: StepName, result: Record) -> Night:
        """Return the night with a step's result."""
        return self.model_copy(update={_FIELD.get(step, step): result})

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """What a person should hear of although nobody asked."""
        return of_night(self)

    @property
    def outcome(self) -> NightOutcome:
        """How the night came out; a night that was not judged and did not end has failed."""
        if self.ended:
            return self.ended.outcome
        if self.promote and self.promote.promoted:
            return "promoted"
        verdict = self.gate.verdict.outcome if self.gate else None
        if verdict is None:
            return "failed"
        if verdict == "UNDECIDED":
            return "undecided"
        return "promoted" if verdict == "PASS" and self.request.dry_run and self.promote else "refused"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it came out so, in words."""
        if self.ended:
            return (f"{self.ended.reason}: {self.ended.detail}",)
        found = self.gate.verdict.reasons if self.gate else ()
        if self.approve and self.approve.required and not self.approve.approved:
            found = (f"approval: {self.approve.reason or 'refused'}",)
        elif self.promote and self.promote.promoted and self.gate and self.gate.verdict.outcome == "UNDECIDED":
            found = (f"overridden by {self.request.actor}: {self.request.reason}", *found)
        elif self.promote and not self.promote.promoted and self.gate:
            passed = self.gate.verdict.outcome == "PASS"
            found = (self.promote.detail,) if passed else (*found, f"override: {self.promote.detail}")
        return found


_FIELD = {"validate": "validate_", "register": "register_"}
