"""What the steps need from the outside world. Adapters fulfil these with one library each; tests with fakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ratchet.domain.case import Cost
from ratchet.domain.models import ModelFiles, ModelName, ModelSchema, ModelVersion, Task
from ratchet.domain.records import Record

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pyarrow as pa

    from ratchet.domain.cards import Card
    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.measuring import Measuring
    from ratchet.domain.night import Night
    from ratchet.domain.retention import TrackedRun
    from ratchet.domain.snapshots import StoredObject
    from ratchet.domain.summaries import FileSummary
    from ratchet.domain.training_rules import Choices, Range
    from ratchet.domain.tuning import SearchTrial
    from ratchet.domain.validation import BrokenRow, ValidationReport
    from ratchet.domain.windows import Span, Windows
    from ratchet.spec import Pipeline
    from ratchet.tables import FeatureFrame, FeatureQuery, FileFormat, FileProfile, Floats, SummaryPlan, TableFile


class ObjectStore(Protocol):
    """Objects under ``s3://bucket/key`` addresses. A key without ``s3://`` lies in the platform's own bucket."""

    def list(self, uri: str, *, versions: bool = False) -> Iterator[StoredObject]:
        """Yield every object under a prefix, in order of key, over all pages.

        With ``versions``, each carries the version id that holds its bytes, where the bucket keeps versions.
        """

    def get(self, uri: str) -> bytes:
        """Return an object's bytes, read whole and checked for length.

        Raises:
            ObjectNotFound: nothing is stored there.
            ServiceError: the store did not answer after bounded retries.
        """

    def put(self, uri: str, data: bytes, content_type: str = "application/json") -> None:
        """Write or replace an object."""

    def create(self, uri: str, data: bytes, content_type: str = "application/json") -> None:
        """Write an object by conditional put.

        Raises:
            AlreadyExists: somebody else wrote it first.
            ConditionalWritesIgnored: the store does not honour the condition.
        """

    def delete(self, uri: str) -> None:
        """Delete an object, if it is there; a bucket that keeps versions keeps what it was."""

    def fetch(self, objects: Sequence[tuple[StoredObject, str | None]]) -> Sequence[tuple[Path, str]]:
        """Bring exactly these object versions into the local cache, in parallel, each read whole and verified.

        Args:
            objects: each with its sha256 where that is known; what is cached under it is not pulled again.

        Returns:
            For each, a local path named by content, and the sha256 of its bytes.

        Raises:
            ObjectChanged: the object was overwritten and the pinned version cannot be had.
            ObjectNotFound: the pinned version is gone.
            ArtifactTampered: the bytes are not those of the sha256.
            ServiceError: the store did not deliver it whole after bounded retries.
        """

    def probe(self) -> None:
        """Try whether of two conditional puts of one key the second is refused.

        Raises:
            ConditionalWritesIgnored: both were accepted.
        """


class Engine(Protocol):
    """Reads tables and runs the features query."""

    def load(
        self, path: Path, sha256: str, key: str, how: FileFormat, date_column: str | None
    ) -> tuple[Path, FileProfile]:
        """Make one source file readable as Parquet (kept by content in the cache) and say what it holds.

        Raises:
            DataRejected: ``corrupt`` (not whole), ``malformed`` (field counts, encoding, values; names the rows), ``schema`` or ``empty``.
        """

    def misfits(self, path: Path, column: str, kind: str) -> tuple[int, tuple[int, ...]]:
        """Count the values of a column of a readable file that are not of a type, and name the first rows, from 1."""

    def summaries(self, files: Sequence[TableFile], plan: SummaryPlan) -> Sequence[FileSummary]:
        """Summarise files of the source day by day; the same file gives the same summary, bit for bit.

        Raises:
            DataRejected: ``corrupt`` when a file cannot be read, ``resource`` when memory or disk runs out.
        """

    def aggregates(self, rows: pa.Table, expressions: Mapping[str, str], weights: Floats) -> Mapping[str, Floats]:
        """Compute SQL aggregates over rows that carry ``dt``, under each reweighing of their days; NaN where one is NULL.

        Args:
            rows: their columns are all that the expressions see.
            expressions: by name.
            weights: of shape (reweighings, days in order): how often each day's rows count, in whole numbers.

        Raises:
            SpecInvalid: an expression is no aggregate of these columns that gives a number.
        """

    def features(self, query: FeatureQuery, out: Path | None = None) -> FeatureFrame:
        """Run the features query; with ``out``, into that Arrow file instead of into memory.

        Raises:
            SpecInvalid: the query or the target does not run over these columns, or returns a row twice or without ``row_id``.
        """


class Validator(Protocol):
    """Runs a Great Expectations suite."""

    @property
    def version(self) -> str:
        """Digest of the code and libraries that decide a result: one that another version gave is not used again."""

    def validate(self, files: Sequence[Path], suite: Mapping[str, Any]) -> ValidationReport:
        """Run the suite (GX JSON) over Parquet files read as one batch. Never raises for what the data holds."""

    def broken_rows(
        self, files: Sequence[Path], suite: Mapping[str, Any], expectations: Sequence[int]
    ) -> Sequence[BrokenRow]:
        """Name each row that breaks some of these expectations (positions in the suite) whose failure was ``rowwise``."""

    def page(self, report: ValidationReport, title: str) -> bytes:
        """Render one report as a Data Docs HTML page."""


class TrainingPlan(Record):
    """How to fit, apart from the data."""

    task: Task
    params: Mapping[str, Any]  # XGBoost's
    rounds: int
    early_stopping_rounds: int
    seed: int
    threads: int
    device: str
    quantiles: tuple[float, ...] = ()  # of a quantile task
    engine: str = "local"  # or dask
    memory_gib: float | None = None  # for the matrices; beyond it they lie on disk
    class_weights: Mapping[str, float] | Literal["balanced"] | None = None
    half_life_days: float | None = None  # a row so many days before the newest counts half
    monotone: Mapping[str, Literal["increasing", "decreasing"]] = {}


class Fit(Record):
    """A fitted model and how the fit went."""

    files: ModelFiles
    curves: Mapping[str, tuple[float, ...]]  # metric on the early-stopping slice per round
    importance: Mapping[str, float]  # total gain by feature, adding up to 1
    rows: int
    made_on: Mapping[str, str] = {}  # where not in this process: what of the engine decides bytes


@dataclass(frozen=True)
class Prepared:
    """Rows as the engine learns from them: made once, fitted to as often as wanted while the context that made them is open."""

    schema: ModelSchema
    query: FeatureQuery
    rows: int  # that are fitted to
    train: Any  # the engine's matrix
    watch: Any  # of the early-stopping days; None: nothing is watched
    on_disk: bool = False  # the matrices lie there: one fit at a time


AfterRound = Callable[[int, float], bool]  # (round from 0, the watched days' loss): True ends the fit there


class Tried(Record):
    """What came of trying a registered model in a fresh process."""

    problem: str | None = None  # why it does not give the evaluated predictions
    cost: Cost | None = None  # where it does


class Trainer(Protocol):
    """Fits boosters and scores with them."""

    def fit(self, frame: FeatureFrame, days: Windows, plan: TrainingPlan, query: FeatureQuery) -> Fit:
        """Fit on ``days.fit``, stop early on ``days.stop``; the same input gives the same bytes.

        Raises:
            DataRejected: ``one_class``, ``non_finite`` … where the labels cannot be learnt from.
        """

    def prepare(
        self, frame: FeatureFrame, days: Windows, plan: TrainingPlan, query: FeatureQuery
    ) -> AbstractContextManager[Prepared]:
        """Make the matrices of ``fit``: ``days.fit`` and all rows before them to learn from, ``days.stop`` to watch.

        Every plan that differs in parameters other than ``max_bin``, in rounds or seed may be boosted on them.
        """

    def boost(self, prepared: Prepared, plan: TrainingPlan, after: AfterRound | None = None) -> Fit:
        """Fit on prepared rows; ``after`` is asked after each round whether to end."""

    def refit(self, frame: FeatureFrame, days: Span, plan: TrainingPlan, query: FeatureQuery, rounds: int) -> Fit:
        """Fit on all rows up to ``days.last`` with as many rounds as are said; nothing is watched."""

    def predict(self, files: ModelFiles, table: pa.Table) -> Floats:
        """Score rows: probabilities of shape (n,) for binary, (n, classes) for multiclass, values (n,) for regression.

        Raises:
            DataRejected: ``schema`` when a feature is missing or has another type.
        """

    def contributions(self, files: ModelFiles, table: pa.Table) -> Floats:
        """Return what each feature adds to each row's raw score, of shape (rows, outputs, features + 1); the base comes last.

        Raises:
            NotExplained: such a booster cannot be, or what is found does not add up to its scores.
            DataRejected: ``schema`` when a feature is missing or has another type.
        """

    def labels(self, files: ModelFiles, table: pa.Table) -> Floats:
        """Return ``target`` as the scores count it: 0/1, class number (−1: a class never met), or value; shape (n,)."""

    def smoke(self, folder: Path, digest: str, rows: Path, expected: Path | None) -> Tried:
        """Load the model in ``folder`` in a fresh process and compare its scores of ``rows`` with ``expected`` exactly.

        Where nothing is expected each row must have a finite score.
        """

    def linear(self, files: ModelFiles, before: pa.Table, after: pa.Table) -> Floats:
        """Fit a linear model on the features that ``files`` uses, of the rows before, and score those after, as ``predict`` does."""

    def metrics(self, how: Measuring, y: Floats, predictions: Floats, lists: Any = None) -> Mapping[str, float | None]:
        """Compute the task's metrics by scikit-learn; None where one is undefined (a single class).

        ``lists`` are a ranking's: an array that says of each row in which list it stands.
        """


class Study(Protocol):
    """One search: the same answers in the same order give the same proposals."""

    def ask(self, count: int) -> Sequence[Mapping[str, Any]]:
        """Propose parameters for so many trials, which will be told of together."""

    def tell(self, ended: Sequence[SearchTrial]) -> None:
        """Say what came of the trials that were asked for last, in order."""

    def add(self, ended: SearchTrial) -> None:
        """Say what came of a trial that was not asked for; one outside of the space says nothing."""


class Tuner(Protocol):
    """Proposes parameters."""

    @property
    def version(self) -> str:
        """What decides the proposals; another version's search is another one."""

    def study(self, space: Mapping[str, Range | Choices], seed: int, trials: int) -> Study:
        """Begin a search of at most so many trials."""


class DatasetUsed(Record):
    """One table of a snapshot, as a run has learnt from it."""

    name: str  # as the features query calls it
    snapshot: str  # digest of the whole snapshot
    uri: str  # where the table lies
    rows: int  # that landed in the window
    objects: int
    columns: Mapping[str, str]  # column → DuckDB type


class Registry(Protocol):
    """Experiment tracking and the model registry."""

    def start_run(self, pipeline: str, run_key: str, name: str, tags: Mapping[str, str], parent: str = "") -> str:
        """Create a run, of its own or below another one, and return its id.

        What a process that was killed has left running for the run key is marked so, unless the new run lies below another.
        """

    def resume_run(self, pipeline: str, run_key: str, run_id: str) -> None:
        """Go on with a run whose process was killed; what else that has left running for the run key is marked so.

        Raises:
            ServiceRefused: the run is gone.
        """

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        curves: Mapping[str, Sequence[float]] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Log in as few requests as possible; ``files`` by artifact path."""

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetUsed]) -> None:
        """Log what a run has learnt from, as the tracking server's own dataset records."""

    def log_model(self, run_id: str, files: ModelFiles, name: ModelName = "model") -> None:
        """Log a model as a pyfunc of data only, under the run's artifact path of its name."""

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        """End a run."""

    def discard(self, run_id: str) -> None:
        """Delete a run that lost a race for its run key."""

    def tracked(self, pipeline: str) -> Sequence[TrackedRun]:
        """Return the runs that nights have made, none that a user has."""

    def erase(self, run_id: str) -> str | None:
        """Delete a run with its artifacts, and say why these stay where they do."""

    def register(self, pipeline: str, version: Mapping[str, str], run_id: str) -> ModelVersion:
        """Create the one version of a run key from a run's model; ``version`` are its tags, as ModelVersion has them.

        Where there is a version of that run key already, that one is returned.
        """

    def version_of(self, pipeline: str, run_key: str) -> ModelVersion | None:
        """Find the version of a run key."""

    def versions(self, pipeline: str) -> Sequence[ModelVersion]:
        """Return all versions, newest first."""

    def delete_version(self, pipeline: str, version: int) -> None:
        """Delete a version that lost a race for its run key."""

    def download(
        self, run_id: str, digest: str, *, fresh: bool = False, name: ModelName = "model"
    ) -> tuple[Path, ModelFiles]:
        """Bring a run's model into the local cache, by digest, without looking at its MLmodel; ``fresh``: although it is there.

        Raises:
            ArtifactTampered: the bytes are not those recorded. ObjectNotFound: they are gone.
        """

    def alias(self, pipeline: str, alias: str) -> int | None:
        """Return the version that an alias names."""

    def aliases(self, pipeline: str) -> Mapping[str, int]:
        """Return the version that each alias names, a user's own included."""

    def set_alias(self, pipeline: str, alias: str, version: int) -> None:
        """Point an alias at a version."""

    def anchors(self, pipeline: str) -> Mapping[int, str]:
        """Return the hashes of ledger entries that are kept with the registered model, by entry number."""

    def anchor(self, pipeline: str, seq: int, entry_hash: str) -> None:
        """Keep the hash of a ledger entry with the registered model."""

    def run_url(self, pipeline: str, run_id: str) -> str:
        """Return the address of a run's page."""

    def version_url(self, pipeline: str, version: int) -> str:
        """Return the address of a version's page."""


class Ledger(Protocol):
    """A pipeline's append-only record of champions."""

    @property
    def trusted(self) -> frozenset[str]:
        """Fingerprints of the keys whose signatures count; with none, signatures are not verified."""

    def entries(self, pipeline: str) -> tuple[LedgerEntry, ...]:
        """Return all entries, verified.

        Raises:
            LedgerBroken: the chain does not hold, or where keys are trusted, its signatures do not.
        """

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Seal an entry, sign it where there is a key, append it by conditional put, and return it as it is stored.

        Raises:
            AlreadyExists: somebody else has taken that number.
            SettingsInvalid: there is no key to sign with, and the ledger is signed.
        """


class Alerter(Protocol):
    """Delivers alerts."""

    def send(self, message: Mapping[str, Any]) -> str | None:
        """Deliver one, and return why that could not be done; never raises, and takes a few seconds at most."""


class Reporter(Protocol):
    """Turns a night into a page."""

    def page(
        self,
        night: Night,
        pipeline: Pipeline,
        predictions: pa.Table | None,
        earlier: Sequence[Night],
        ledger: Sequence[LedgerEntry],
    ) -> bytes:
        """Render one self-contained HTML page.

        Args:
            night: the night, however it ended.
            pipeline: its spec, suite and SQL.
            predictions: of the hold-out: ``row_id``, ``dt``, ``label``, ``challenger`` and, where there was one, ``champion``.
            earlier: nights before this one, newest first.
            ledger: all entries.
        """

    def card(self, card: Card) -> bytes:
        """Render a version's model card as one self-contained HTML page."""
