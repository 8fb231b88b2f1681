"""Fakes of the ports, in memory: the same contract suites run on them as on the real adapters.

Faults are injected through ``tripwire``, which is called with the operation and the address before anything is written, and
through the helpers that do what a careless hand or a broken disk would do (``rot``, ``lose``, ``tamper`` …).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ratchet.domain.models import ModelFiles, ModelName, ModelSchema, ModelVersion, files_digest
from ratchet.domain.records import digest
from ratchet.domain.retention import TrackedRun
from ratchet.domain.snapshots import StoredObject
from ratchet.domain.validation import BrokenRow, ExpectationResult, ValidationReport
from ratchet.errors import (
    AlreadyExists,
    ArtifactTampered,
    ConditionalWritesIgnored,
    ObjectChanged,
    ObjectCorrupt,
    ObjectNotFound,
    ServiceRefused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ratchet.domain.night import Night
    from ratchet.ports import DatasetUsed


class Killed(BaseException):
    """The process died here; nothing that catches errors catches this."""


class Tripwire:
    """Counts what is about to be written, and dies at the chosen moment.

    Args:
        at: the number of the write before which the process dies, from 1; None to count only.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.seen: list[str] = []

    def __call__(self, operation: str, where: str) -> None:
        """Note a write, and die if it is the chosen one."""
        self.seen.append(f"{operation} {where}")
        if len(self.seen) == self.at:
            raise Killed(self.seen[-1])


@dataclass
class _Version:
    """The bytes of one version of an object; None is a delete marker."""

    data: bytes | None
    version: str | None
    etag: str
    size: int
    modified: str


class MemoryStore:
    """Fulfils ``ports.ObjectStore``.

    Args:
        folder: where fetched objects lie.
        bucket: the platform's own.
        versioned: whether buckets keep versions.
        conditional: whether conditional puts are honoured.
    """

    def __init__(
        self, folder: Path, bucket: str = "ratchet", *, versioned: bool = True, conditional: bool = True
    ) -> None:
        self.folder = folder
        self.bucket = bucket
        self.versioned = versioned
        self.conditional = conditional
        self.tripwire: Callable[[str, str], None] = Tripwire()
        self._objects: dict[str, list[_Version]] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def list(self, uri: str, *, versions: bool = False) -> Iterator[StoredObject]:
        """See ``ports.ObjectStore.list``."""
        prefix = self._uri(uri)
        with self._lock:
            found = [(key, held[-1]) for key, held in sorted(self._objects.items()) if key.startswith(prefix) and held]
        for key, newest in found:
            if newest.data is not None:
                yield StoredObject(
                    uri=key,
                    size=newest.size,
                    etag=newest.etag,
                    version=newest.version if versions else None,
                    modified=newest.modified,
                )

    def get(self, uri: str) -> bytes:
        """See ``ports.ObjectStore.get``."""
        held = self._objects.get(self._uri(uri))
        if not held or held[-1].data is None:
            raise ObjectNotFound(uri)
        return held[-1].data

    def put(self, uri: str, data: bytes, content_type: str = "application/json") -> None:
        """See ``ports.ObjectStore.put``."""
        self.tripwire("put", uri)
        with self._lock:
            self._write(self._uri(uri), data)

    def create(self, uri: str, data: bytes, content_type: str = "application/json") -> None:
        """See ``ports.ObjectStore.create``."""
        self.tripwire("create", uri)
        with self._lock:
            held = self._objects.get(self._uri(uri))
            if self.conditional and held and held[-1].data is not None:
                if held[-1].data != data:
                    raise AlreadyExists(uri)
                return
            self._write(self._uri(uri), data)

    def fetch(self, objects: Sequence[tuple[StoredObject, str | None]]) -> Sequence[tuple[Path, str]]:
        """See ``ports.ObjectStore.fetch``."""
        return [self._fetch(found, sha) for found, sha in objects]

    def probe(self) -> None:
        """See ``ports.ObjectStore.probe``."""
        if not self.conditional:
            raise ConditionalWritesIgnored("memory")

    def delete(self, uri: str) -> None:
        """See ``ports.ObjectStore.delete``."""
        self.tripwire("delete", uri)
        if self._uri(uri) in self._objects:
            self._objects[self._uri(uri)].append(_Version(None, None, "", 0, self._now()))
            if not self.versioned:
                del self._objects[self._uri(uri)]

    def lose(self, uri: str) -> None:
        """Lose an object with all its versions."""
        del self._objects[self._uri(uri)]

    def rot(self, uri: str, data: bytes) -> None:
        """Change the bytes of the newest version in place, as a broken disk does: same version, ETag and size."""
        self._objects[self._uri(uri)][-1].data = data

    def contents(self, prefix: str = "") -> dict[str, bytes]:
        """Return the newest bytes of every object under a prefix."""
        return {found.uri: self.get(found.uri) for found in self.list(prefix)}

    def take(self, other: MemoryStore) -> None:
        """Hold what another store holds."""
        self._objects = {key: [dataclasses.replace(v) for v in held] for key, held in other._objects.items()}
        self._ids = itertools.count(1_000_000)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of the platform's own bucket under a prefix."""
        return [found.uri.removeprefix(f"s3://{self.bucket}/") for found in self.list(prefix)]

    def _fetch(self, found: StoredObject, sha: str | None) -> tuple[Path, str]:
        if sha and (self.folder / sha).is_file():
            return self.folder / sha, sha
        held = [v for v in self._objects.get(self._uri(found.uri), ()) if v.data is not None]
        if found.version:
            held = [v for v in held if v.version == found.version]
        if not held:
            raise ObjectNotFound(found.uri, found.version)
        if not found.version and held[-1].etag != found.etag:
            raise ObjectChanged(found.uri, f"ETag {found.etag}", held[-1].etag)
        data = held[-1].data
        assert data is not None
        if len(data) != found.size:
            raise ObjectChanged(found.uri, f"{found.size} bytes", f"{len(data)} bytes")
        seen = hashlib.sha256(data).hexdigest()
        if sha and sha != seen:
            raise ObjectCorrupt(found.uri, f"sha256 {sha}", f"sha256 {seen}")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / seen).write_bytes(data)
        return self.folder / seen, seen

    def _write(self, uri: str, data: bytes) -> None:
        made = _Version(
            data,
            f"v{next(self._ids)}" if self.versioned else None,
            f'"{hashlib.md5(data).hexdigest()}"',
            len(data),
            self._now(),
        )
        held = self._objects.setdefault(uri, [])
        if not self.versioned:
            held.clear()
        held.append(made)

    def _now(self) -> str:
        return self.clock().isoformat(timespec="seconds")

    def _uri(self, uri: str) -> str:
        return uri if uri.startswith("s3://") else f"s3://{self.bucket}/{uri}"


@dataclass
class _Run:
    """A tracked run."""

    pipeline: str
    run_key: str
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Sequence[float]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    model: dict[str, bytes] = field(default_factory=dict)
    evaluated: dict[str, bytes] = field(default_factory=dict)
    inputs: tuple[DatasetUsed, ...] = ()
    status: str = "RUNNING"
    name: str = ""
    parent: str = ""


class MemoryRegistry:
    """Fulfils ``ports.Registry``.

    Args:
        folder: where downloaded models lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tripwire: Callable[[str, str], None] = Tripwire()
        self.runs: dict[str, _Run] = {}
        self._versions: dict[str, dict[int, ModelVersion]] = {}
        self._aliases: dict[str, dict[str, int]] = {}
        self._anchors: dict[str, dict[int, str]] = {}
        self._runs_made = itertools.count(1)
        self._newest: dict[str, int] = {}
        self._lock = threading.Lock()

    def start_run(self, pipeline: str, run_key: str, name: str, tags: Mapping[str, str], parent: str = "") -> str:
        """See ``ports.Registry.start_run``."""
        self.tripwire("start_run", pipeline)
        run_id = f"run-{next(self._runs_made)}"
        if not parent:
            self._end_killed(run_key)
        self.runs[run_id] = _Run(pipeline, run_key, dict(tags), name=name, parent=parent)
        return run_id

    def resume_run(self, pipeline: str, run_key: str, run_id: str) -> None:
        """See ``ports.Registry.resume_run``."""
        self.tripwire("resume_run", pipeline)
        if run_id not in self.runs:
            raise ServiceRefused("memory", f"going on with run {run_id}", "it is gone")
        self._end_killed(run_key)
        self.runs[run_id].status = "RUNNING"

    def _end_killed(self, run_key: str) -> None:
        for run in self.runs.values():
            if run.run_key == run_key and run.status == "RUNNING":
                run.status = "KILLED"

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
        """See ``ports.Registry.log``."""
        self.tripwire("log", run_id)
        run = self.runs[run_id]
        for name, given in (
            ("params", params),
            ("metrics", metrics),
            ("curves", curves),
            ("tags", tags),
            ("files", files),
        ):
            getattr(run, name).update(given or {})

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetUsed]) -> None:
        """See ``ports.Registry.log_inputs``."""
        self.tripwire("log_inputs", run_id)
        self.runs[run_id].inputs = tuple(datasets)

    def log_model(self, run_id: str, files: ModelFiles, name: ModelName = "model") -> None:
        """See ``ports.Registry.log_model``."""
        self.tripwire("log_model", run_id)
        setattr(self.runs[run_id], name, dict(files.files))

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        """See ``ports.Registry.finish``."""
        self.tripwire("finish", run_id)
        self.runs[run_id].status = "FAILED" if failed else "FINISHED"

    def discard(self, run_id: str) -> None:
        """See ``ports.Registry.discard``."""
        self.tripwire("discard", run_id)
        del self.runs[run_id]

    def tracked(self, pipeline: str) -> Sequence[TrackedRun]:
        """See ``ports.Registry.tracked``."""
        return [
            TrackedRun(
                run_id=run_id,
                run_key=run.run_key,
                cutoff=run.tags["ratchet.cutoff"],
                snapshot=run.tags["ratchet.snapshot"],
                dry_run=run.tags["ratchet.dry_run"] == "true",
                running=run.status == "RUNNING",
            )
            for run_id, run in self.runs.items()
            if run.pipeline == pipeline and {"ratchet.snapshot", "ratchet.dry_run"} <= run.tags.keys()
        ]

    def erase(self, run_id: str) -> str | None:
        """See ``ports.Registry.erase``."""
        self.tripwire("erase", run_id)
        del self.runs[run_id]
        return None

    def register(self, pipeline: str, version: Mapping[str, str], run_id: str) -> ModelVersion:
        """See ``ports.Registry.register``."""
        self.tripwire("register", pipeline)
        with self._lock:
            if there := self.version_of(pipeline, version["run_key"]):
                return there
            number = self._newest[pipeline] = self._newest.get(pipeline, 0) + 1
            facts: dict[str, Any] = dict(version)
            made = ModelVersion(version=number, mlflow_run_id=run_id, created="2024-01-01T00:00:00Z", **facts)
            self._versions.setdefault(pipeline, {})[number] = made
            return made

    def version_of(self, pipeline: str, run_key: str) -> ModelVersion | None:
        """See ``ports.Registry.version_of``."""
        return next((v for v in reversed(self.versions(pipeline)) if v.run_key == run_key), None)

    def versions(self, pipeline: str) -> Sequence[ModelVersion]:
        """See ``ports.Registry.versions``."""
        return sorted(self._versions.get(pipeline, {}).values(), key=lambda v: -v.version)

    def delete_version(self, pipeline: str, version: int) -> None:
        """See ``ports.Registry.delete_version``."""
        self.tripwire("delete_version", f"{pipeline} {version}")
        del self._versions[pipeline][version]
        aliases = self._aliases.get(pipeline, {})
        self._aliases[pipeline] = {name: v for name, v in aliases.items() if v != version}

    def download(
        self, run_id: str, digest: str, *, fresh: bool = False, name: ModelName = "model"
    ) -> tuple[Path, ModelFiles]:
        """See ``ports.Registry.download``."""
        folder = self.folder / digest
        if fresh or not folder.is_dir():
            run = self.runs.get(run_id)
            stored: dict[str, bytes] = getattr(run, name) if run else {}
            if not stored:
                raise ObjectNotFound(f"memory run {run_id} artifact {name}/data")
            folder.mkdir(parents=True, exist_ok=True)
            for file, data in stored.items():
                (folder / file).write_bytes(data)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        found = files_digest(files)
        if found != digest:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            raise ArtifactTampered(f"the model of run {run_id}", digest, found)
        schema = ModelSchema.model_validate_json(files["schema.json"])
        return folder, ModelFiles(booster=files["booster.ubj"], features=files["features.sql"].decode(), schema_=schema)

    def alias(self, pipeline: str, alias: str) -> int | None:
        """See ``ports.Registry.alias``."""
        return self._aliases.get(pipeline, {}).get(alias)

    def aliases(self, pipeline: str) -> Mapping[str, int]:
        """See ``ports.Registry.aliases``."""
        return dict(self._aliases.get(pipeline, {}))

    def set_alias(self, pipeline: str, alias: str, version: int) -> None:
        """See ``ports.Registry.set_alias``."""
        self.tripwire("set_alias", f"{alias} {version}")
        self._aliases.setdefault(pipeline, {})[alias] = version

    def anchors(self, pipeline: str) -> Mapping[int, str]:
        """See ``ports.Registry.anchors``."""
        return dict(self._anchors.get(pipeline, {}))

    def anchor(self, pipeline: str, seq: int, entry_hash: str) -> None:
        """See ``ports.Registry.anchor``."""
        self.tripwire("anchor", f"{pipeline} {seq}")
        self._anchors.setdefault(pipeline, {})[seq] = entry_hash

    def run_url(self, pipeline: str, run_id: str) -> str:
        """See ``ports.Registry.run_url``."""
        return f"memory://{pipeline}/{run_id}"

    def version_url(self, pipeline: str, version: int) -> str:
        """See ``ports.Registry.version_url``."""
        return f"memory://{pipeline}/versions/{version}"

    def take(self, other: MemoryRegistry) -> None:
        """Hold what another registry holds."""
        self.runs = {key: dataclasses.replace(run, model=dict(run.model)) for key, run in other.runs.items()}
        self._versions = {name: dict(made) for name, made in other._versions.items()}
        self._aliases = {name: dict(made) for name, made in other._aliases.items()}
        self._anchors = {name: dict(made) for name, made in other._anchors.items()}
        self._newest = dict(other._newest)
        made = max((int(run.removeprefix("run-")) for run in other.runs), default=0)
        self._runs_made = itertools.count(made + 1000)  # those that the other makes from now on are others

    def tamper(self, run_id: str) -> None:
        """Flip one bit of a run's stored model, and forget every copy of it."""
        model = self.runs[run_id].model
        model["booster.ubj"] = bytes([model["booster.ubj"][0] ^ 1]) + model["booster.ubj"][1:]
        self.forget()

    def forget(self) -> None:
        """Forget every downloaded copy, as another machine would not have it."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


class SmallValidator:
    """Fulfils ``ports.Validator`` for values and row counts in a range; no other expectation can be checked."""

    def __init__(self) -> None:
        self.batches = 0

    def validate(self, files: Sequence[Path], suite: Mapping[str, Any]) -> ValidationReport:
        """See ``ports.Validator.validate``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.batches += 1
        table = pa.concat_tables([pq.read_table(path) for path in files])
        results = tuple(self._check(table, given) for given in suite["expectations"])
        return ValidationReport(
            suite=suite["name"], suite_digest=digest(suite), rows=table.num_rows, results=results, document={}
        )

    version = "small"

    def broken_rows(
        self, files: Sequence[Path], suite: Mapping[str, Any], expectations: Sequence[int]
    ) -> Sequence[BrokenRow]:
        """See ``ports.Validator.broken_rows``."""
        import pyarrow.parquet as pq

        found: dict[tuple[int, int], list[int]] = {}
        for n in expectations:
            given = suite["expectations"][n]["kwargs"]
            for i, file in enumerate(files):
                for row, value in enumerate(
                    pq.read_table(file, columns=[given["column"]])[given["column"]].to_pylist()
                ):
                    if value is not None and not given["min_value"] <= value <= given["max_value"]:
                        found.setdefault((i, row), []).append(n)
        return [BrokenRow(file=i, row=row, expectations=tuple(e)) for (i, row), e in sorted(found.items())]

    def page(self, report: ValidationReport, title: str) -> bytes:
        """See ``ports.Validator.page``."""
        return f"<h1>{title}</h1>".encode()

    def _check(self, table: Any, given: Mapping[str, Any]) -> ExpectationResult:
        import pyarrow.compute as pc

        kind, kwargs = given["type"], given["kwargs"]
        facts: dict[str, Any] = {
            "type": kind,
            "column": kwargs.get("column"),
            "severity": given.get("severity", "critical"),
            "expected": str(kwargs),
        }
        if kind == "expect_table_row_count_to_be_between":
            within = kwargs["min_value"] <= table.num_rows <= kwargs["max_value"]
            return ExpectationResult(**facts, success=within, observed=str(table.num_rows))
        if kind != "expect_column_values_to_be_between":
            return ExpectationResult(**facts, success=False, observed="", error="it could not be computed")
        values = table[kwargs["column"]].drop_null()
        bad = pc.sum(pc.or_(pc.less(values, kwargs["min_value"]), pc.greater(values, kwargs["max_value"]))).as_py() or 0
        return ExpectationResult(
            **facts, success=not bad, observed=f"{bad} outside", unexpected_count=bad, vacuous=len(values) == 0,
            rowwise=bool(bad),
        )  # fmt: skip


class PlainReporter:
    """Fulfils ``ports.Reporter`` with a line of text."""

    def page(self, night: Night, pipeline: Any, predictions: Any, earlier: Any, ledger: Any) -> bytes:
        """See ``ports.Reporter.page``."""
        return f"<p>{night.outcome}: {'; '.join(night.reasons)}</p>".encode()

    def card(self, card: Any) -> bytes:
        """See ``ports.Reporter.card``."""
        return f"<p>{card.pipeline} version {card.version}: {card.status}</p>".encode()
