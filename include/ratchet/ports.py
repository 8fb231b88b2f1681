"""What the steps need from the outside world. Adapters fulfil these with one library each; tests with fakes."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field

from ratchet.domain.case import Cost
from ratchet.domain.models import ModelFiles, ModelName, ModelSchema, ModelVersion, Task
from ratchet.domain.records import Record
from ratchet.domain.snapshots import SourceFormat, StoredObject
from ratchet.domain.windows import Span, Windows

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    import pyarrow as pa

    from ratchet.domain.cards import Card
    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.measuring import Measuring
    from ratchet.domain.night import Night
    from ratchet.domain.retention import TrackedRun
    from ratchet.domain.summaries import FileSummary
    from ratchet.domain.training_rules import Choices, Range
    from ratchet.domain.tuning import SearchTrial
    from ratchet.domain.validation import BrokenRow, ValidationReport
    from ratchet.spec import Pipeline

    Floats = np.ndarray[Any, np.dtype[np.float64]]


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


class FileFormat(Record):
    """How source files of a table are written."""

    format: SourceFormat
    columns: Mapping[str, str] = {}  # column → DuckDB type, for CSV and JSON Lines; others are sniffed
    null_values: tuple[str, ...] = ("",)
    delimiter: str = ","


class FileProfile(Record):
    """What one source file holds."""

    rows: int
    columns: Mapping[str, str]  # column → DuckDB type, in the file's order
    days: tuple[date, ...] | None = None  # each once and in order, where the table has a date column
    empty: tuple[str, ...] = ()  # columns without any value


class TableFile(Record):
    """One readable file of a table, and the day it stands for."""

    path: Path  # Parquet, as Engine.load left it
    day: date | None  # None where the rows carry their date
    key: str  # the source object's key, for messages
    without: tuple[int, ...] = ()  # rows, from 0, that are in quarantine


class TableFiles(Record):
    """One table of a snapshot, readable."""

    files: tuple[TableFile, ...]
    date_column: str | None = None  # the column that dates the rows, where files are not dated by path
    days: Span | None = None  # read only these days
    ignore: tuple[str, ...] = ()  # columns that are not read


class Cut(Record):
    """A moment of the past, as whose the tables are shown: half of the events of a day have happened by then."""

    day: date
    times: Mapping[str, str]  # table → column of when a row became known; "rows" is among them


class FeatureQuery(Record):
    """What the features query is run over."""

    tables: Mapping[str, TableFiles]  # "rows" and the side tables
    sql: str
    hidden: tuple[str, ...]  # columns of rows that the query cannot see: unknown at prediction time
    target: str  # SQL expression over all columns of rows; NULL where there is no label
    group: str | None = None  # of a ranking: SQL expression of the list that a row stands in, likewise
    cut: Cut | None = None  # show the tables as they were at this moment


GROUP = "ratchet.group"  # column of a frame that tells a ranking's lists apart; no feature is called that
LABELS = ("row_id", "dt", "target", GROUP)  # columns of a frame that are no features


class FeatureFrame(Record):
    """The features of labelled rows.

    ``table`` has ``row_id`` (BIGINT, unique in the snapshot), ``dt`` (DATE), ``target`` and the features in the query's
    order, sorted by ``row_id``; of a ranking, there is ``GROUP`` besides, the rows are sorted by day, list and ``row_id``, and a
    list lies in one day. ``landed`` rows were read; ``unlabelled`` had no target; ``dropped`` the query left out.
    ``quarantined`` rows of the files were left out one by one, and ``outside`` ones because they are dated to other days.

    The table of a kept frame lies in a file that is mapped into memory: what is looked at takes memory, as long as the system
    has some to spare, and what is not takes none. Who goes through many rows does so by ``batches``, which gives it back.
    """

    model_config = {"arbitrary_types_allowed": True, "frozen": True, "extra": "forbid"}

    table: Any  # pyarrow.Table
    landed: int
    unlabelled: int
    dropped: int
    columns: Mapping[str, Mapping[str, str]]  # table → column → DuckDB type, as the query read them
    quarantined: int = 0
    outside: int = 0
    mapped: Any = Field(None, exclude=True, repr=False)  # the mmap of the file in which the table lies

    @classmethod
    def of_file(cls, file: Path, **counts: Any) -> FeatureFrame:
        """Map an Arrow file; ``counts`` are the other fields."""
        import pyarrow as pa  # noqa: PLC0415

        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(table=pa.ipc.open_file(pa.py_buffer(mapped)).read_all(), mapped=mapped, **counts)

    def days(self, first: date, last: date, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of some days, all columns or some; where the rows are in order of days, without a copy."""
        return rows_of_days(self.table, first, last, columns)

    def count(self, days: Span) -> int:
        """Count the rows of some days."""
        return int(self.days(days.first, days.last, ("dt",)).num_rows)

    def spread(self, first: date, last: date, rows: int) -> pa.Table:
        """Return at most so many rows of some days, evenly over all of them."""
        import numpy as np  # noqa: PLC0415

        where = _where(self.table, first, last)
        there = np.arange(where.start, where.stop) if isinstance(where, slice) else where
        found = self.table.take(there[np.linspace(0, len(there) - 1, min(len(there), rows)).astype(np.int64)])
        self.forget()  # few rows of many pages
        return found

    def batches(self, first: date, last: date, rows: int = 250_000) -> Iterator[pa.Table]:
        """Yield the rows of some days in order, so many at a time; what a batch took is given back when the next one is asked for."""
        import pyarrow.compute as pc  # noqa: PLC0415

        for start, end in self._cuts(rows):
            batch = self.table.slice(start, end - start)
            dt = batch["dt"]
            here = pc.and_(pc.greater_equal(dt, first), pc.less_equal(dt, last))
            some, every = pc.any(here).as_py(), pc.all(here).as_py()
            if some:
                yield batch if every else batch.filter(here)
            self.forget()

    def _cuts(self, rows: int) -> Iterator[tuple[int, int]]:
        """Yield where batches start and end: after so many rows, and of a ranking, where the list of the last one ends."""
        start, total = 0, self.table.num_rows
        while start < total:
            end = min(start + rows, total)
            if GROUP in self.table.column_names:
                lists = self.table[GROUP]
                while end < total and lists[end] == lists[end - 1]:
                    end += 1
            yield start, end
            start = end

    def forget(self) -> None:
        """Give back the memory that mapped rows take; they are read again where they are looked at again."""
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


def rows_of_days(table: pa.Table, first: date, last: date, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a table that its column ``dt`` dates to some days; where they are in order of days, without a copy."""
    where = _where(table, first, last)
    shown = table if columns is None else table.select(columns)
    return shown.slice(where.start, where.stop - where.start) if isinstance(where, slice) else shown.take(where)


def lists_in(table: pa.Table) -> Any:
    """Return the number of each row's list, from 0; None where rows stand in no lists."""
    if GROUP not in table.column_names:
        return None
    return table[GROUP].combine_chunks().dictionary_encode().indices.to_numpy()


def _where(table: pa.Table, first: date, last: date) -> Any:
    """Return where some days' rows are: a slice, or where they lie scattered, an array of their numbers."""
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    days = table["dt"].cast(pa.int32()).to_numpy()
    epoch = date(1970, 1, 1)
    low, high = (first - epoch).days, (last - epoch).days
    if (days[1:] < days[:-1]).any():  # rows that carry their dates may lie in any order
        return np.flatnonzero((days >= low) & (days <= high))
    start, end = np.searchsorted(days, [low, high + 1])
    return slice(int(start), int(max(end, start)))


class SummaryPlan(Record):
    """What a file is asked, so that it can be compared with others without reading it again."""

    date_column: str | None  # which dates the rows, where the file is not dated by its path
    target: str  # SQL expression
    regression: bool
    ignore: tuple[str, ...] = ()  # columns that are not read
    key: tuple[str, ...] = ()  # columns that name a row; none: all
    event_time: str | None = None
    event_slack_hours: float = 0.0


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
