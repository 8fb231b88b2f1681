"""A world in a folder: the source is read where it lies, and whatever is written stays in the folder.

Nights that are replayed run in such a world by the same steps as real ones, and reach no champion, ledger or registry.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratchet.domain.models import ModelFiles, ModelName, ModelSchema, ModelVersion, files_digest
from ratchet.domain.records import Record, digest, sha256
from ratchet.domain.snapshots import StoredObject
from ratchet.errors import AlreadyExists, ArtifactTampered, ObjectNotFound
from ratchet.ports import Fit, Tried
from ratchet.provenance import code_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import date

    import pyarrow as pa

    from ratchet.domain.measuring import Measuring
    from ratchet.domain.retention import TrackedRun
    from ratchet.domain.windows import Span, Windows
    from ratchet.ports import AfterRound, DatasetUsed, ObjectStore, Prepared, Trainer, TrainingPlan
    from ratchet.tables import FeatureFrame, FeatureQuery, Floats

_OURS = "s3://~sandbox/"  # no bucket can be called so
_BY_CONTENT = ("validations/", "quarantine/", "data_docs/", "summaries/")  # known by what they are of: all share them
_MODEL = ("booster.ubj", "features.sql", "schema.json")
_NAMES: tuple[ModelName, ...] = ("model", "evaluated")


class FolderStore:
    """Fulfils ``ports.ObjectStore``.

    Args:
        folder: where the objects lie that would lie in the platform's own bucket.
        shared: where those lie that are known by their content.
        source: the real store; it is only ever read, and only under the source's prefixes or in other buckets.
        prefixes: what the pipeline reads.
    """

    def __init__(self, folder: Path, shared: Path, source: ObjectStore, prefixes: Sequence[str]) -> None:
        self.folder, self.shared = folder, shared
        self._source, self._prefixes = source, tuple(prefixes)

    def list(self, uri: str, *, versions: bool = False) -> Iterator[StoredObject]:
        """See ``ports.ObjectStore.list``."""
        if self._outside(uri):
            yield from self._source.list(uri, versions=versions)
            return
        prefix = uri.removeprefix(_OURS)
        root = self._root(prefix)
        parent = root / prefix.rpartition("/")[0]
        keys = sorted(
            key
            for path in parent.rglob("*")
            if path.is_file()
            and not path.name.startswith(".")
            and (key := path.relative_to(root).as_posix()).startswith(prefix)
        )
        for key in keys:
            about = (root / key).stat()
            yield StoredObject(uri=f"{_OURS}{key}", size=about.st_size, etag=f'"{about.st_mtime_ns:x}"')

    def get(self, uri: str) -> bytes:
        """See ``ports.ObjectStore.get``."""
        if self._outside(uri):
            return self._source.get(uri)
        try:
            return self.path(uri).read_bytes()
        except (FileNotFoundError, IsADirectoryError) as exc:
            raise ObjectNotFound(uri) from exc

    def put(self, uri: str, data: bytes, content_type: str = "application/json") -> None:  # noqa: ARG002  files have none
        """See ``ports.ObjectStore.put``."""
        path = self._own(uri)
        self._aside(path, data).replace(path)

    def delete(self, uri: str) -> None:
        """See ``ports.ObjectStore.delete``."""
        self._own(uri).unlink(missing_ok=True)

    def create(self, uri: str, data: bytes, content_type: str = "application/json") -> None:  # noqa: ARG002
        """See ``ports.ObjectStore.create``."""
        path = self._own(uri)
        aside = self._aside(path, data)
        try:
            os.link(aside, path)
        except FileExistsError as exc:
            if path.read_bytes() != data:
                raise AlreadyExists(uri) from exc
        finally:
            aside.unlink()

    def fetch(self, objects: Sequence[tuple[StoredObject, str | None]]) -> Sequence[tuple[Path, str]]:
        """See ``ports.ObjectStore.fetch``; what is fetched is the source's."""
        return self._source.fetch(objects)

    def probe(self) -> None:
        """See ``ports.ObjectStore.probe``; of two links of one name the second is refused."""

    def path(self, uri: str) -> Path:
        """Return where an object of ours lies."""
        key = uri.removeprefix(_OURS)
        return self._root(key) / key

    def _root(self, key: str) -> Path:
        return self.shared if key.startswith(_BY_CONTENT) else self.folder

    def _own(self, uri: str) -> Path:
        assert not self._outside(uri), f"{uri} is not the sandbox's to write"
        path = self.path(uri)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def _aside(self, path: Path, data: bytes) -> Path:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        return Path(name)

    def _outside(self, uri: str) -> bool:
        return (uri.startswith("s3://") and not uri.startswith(_OURS)) or uri.startswith(self._prefixes)


class FolderRegistry:
    """Fulfils ``ports.Registry`` over a sandbox's store. Of what is logged the model is kept; the rest stands in the night's record."""

    def __init__(self, store: FolderStore) -> None:
        self._store = store

    def start_run(self, pipeline: str, run_key: str, name: str, tags: Mapping[str, str], parent: str = "") -> str:  # noqa: ARG002
        """See ``ports.Registry.start_run``."""
        return uuid.uuid4().hex

    def resume_run(self, pipeline: str, run_key: str, run_id: str) -> None:
        """See ``ports.Registry.resume_run``."""

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

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetUsed]) -> None:
        """See ``ports.Registry.log_inputs``."""

    def log_model(self, run_id: str, files: ModelFiles, name: ModelName = "model") -> None:
        """See ``ports.Registry.log_model``."""
        for file, data in files.files.items():
            self._store.put(f"{_place(run_id, name)}{file}", data)

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        """See ``ports.Registry.finish``."""

    def discard(self, run_id: str) -> None:
        """See ``ports.Registry.discard``."""
        for name in _NAMES:
            shutil.rmtree(self._store.path(_place(run_id, name)), ignore_errors=True)

    def tracked(self, pipeline: str) -> Sequence[TrackedRun]:  # noqa: ARG002
        """See ``ports.Registry.tracked``; a sandbox is thrown away as a whole."""
        return ()

    def erase(self, run_id: str) -> str | None:
        """See ``ports.Registry.erase``."""
        self.discard(run_id)
        return None

    def register(self, pipeline: str, version: Mapping[str, str], run_id: str) -> ModelVersion:
        """See ``ports.Registry.register``."""
        if there := self.version_of(pipeline, version["run_key"]):
            return there
        facts: dict[str, Any] = {"mlflow_run_id": run_id, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        number = sum(1 for _ in self._store.list(_versions(pipeline))) + 1
        made = ModelVersion.model_validate({**version, **facts, "version": number})
        self._store.create(f"{_versions(pipeline)}{number:08d}", made.model_dump_json().encode())
        return made

    def version_of(self, pipeline: str, run_key: str) -> ModelVersion | None:
        """See ``ports.Registry.version_of``."""
        return next((v for v in reversed(self.versions(pipeline)) if v.run_key == run_key), None)

    def versions(self, pipeline: str) -> Sequence[ModelVersion]:
        """See ``ports.Registry.versions``."""
        kept = (self._store.get(found.uri) for found in self._store.list(_versions(pipeline)))
        return [ModelVersion.model_validate_json(data) for data in kept if data][::-1]

    def delete_version(self, pipeline: str, version: int) -> None:
        """See ``ports.Registry.delete_version``; the number is not given again."""
        self._store.put(f"{_versions(pipeline)}{version:08d}", b"")

    def download(
        self,
        run_id: str,
        digest: str,
        *,
        fresh: bool = False,  # noqa: ARG002  there is no copy
        name: ModelName = "model",
    ) -> tuple[Path, ModelFiles]:
        """See ``ports.Registry.download``."""
        place = _place(run_id, name)
        folder = self._store.path(place)
        files = {file: self._store.get(f"{place}{file}") for file in _MODEL}
        if (found := files_digest(files)) != digest:
            raise ArtifactTampered(f"the model of run {run_id}", digest, found)
        return folder, _model(files)

    def aliases(self, pipeline: str) -> Mapping[str, int]:
        """See ``ports.Registry.aliases``."""
        names = [stored.uri.rpartition("/")[2] for stored in self._store.list(f"registry/aliases/{pipeline}/")]
        return {name: found for name in names if (found := self.alias(pipeline, name))}

    def alias(self, pipeline: str, alias: str) -> int | None:
        """See ``ports.Registry.alias``."""
        try:
            return int(self._store.get(f"registry/aliases/{pipeline}/{alias}"))
        except ObjectNotFound:
            return None

    def set_alias(self, pipeline: str, alias: str, version: int) -> None:
        """See ``ports.Registry.set_alias``."""
        self._store.put(f"registry/aliases/{pipeline}/{alias}", str(version).encode())

    def anchors(self, pipeline: str) -> Mapping[int, str]:
        """See ``ports.Registry.anchors``."""
        found = self._store.list(f"registry/anchors/{pipeline}/")
        return {int(kept.uri.rpartition("/")[2]): self._store.get(kept.uri).decode() for kept in found}

    def anchor(self, pipeline: str, seq: int, entry_hash: str) -> None:
        """See ``ports.Registry.anchor``."""
        self._store.put(f"registry/anchors/{pipeline}/{seq:08d}", entry_hash.encode())

    def run_url(self, pipeline: str, run_id: str) -> str:  # noqa: ARG002  a sandbox has no pages
        """See ``ports.Registry.run_url``."""
        return ""

    def version_url(self, pipeline: str, version: int) -> str:  # noqa: ARG002
        """See ``ports.Registry.version_url``."""
        return ""


class _Rest(Record):
    """What a fit is, apart from the model's files."""

    curves: dict[str, tuple[float, ...]]
    importance: dict[str, float]
    rows: int
    made_on: dict[str, str] = {}


class KeptFits:
    """Fulfils ``ports.Trainer`` by another one, and keeps its fits by what went into them: the same input gives the same bytes.

    Args:
        trainer: the real one.
        folder: where the fits are kept.
    """

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self._trainer, self._folder = trainer, folder

    def fit(self, frame: FeatureFrame, days: Windows, plan: TrainingPlan, query: FeatureQuery) -> Fit:
        """See ``ports.Trainer.fit``."""
        key = _ingredients(frame, days.stop.last, [days.fit, days.stop], plan, query)
        return self._kept(key, lambda: self._trainer.fit(frame, days, plan, query))

    def prepare(
        self, frame: FeatureFrame, days: Windows, plan: TrainingPlan, query: FeatureQuery
    ) -> AbstractContextManager[Prepared]:
        """See ``ports.Trainer.prepare``."""
        return self._trainer.prepare(frame, days, plan, query)

    def boost(self, prepared: Prepared, plan: TrainingPlan, after: AfterRound | None = None) -> Fit:
        """See ``ports.Trainer.boost``."""
        return self._trainer.boost(prepared, plan, after)

    def refit(self, frame: FeatureFrame, days: Span, plan: TrainingPlan, query: FeatureQuery, rounds: int) -> Fit:
        """See ``ports.Trainer.refit``."""
        fixed = plan.model_copy(update={"rounds": rounds})
        key = _ingredients(frame, days.last, [days], fixed, query)
        return self._kept(key, lambda: self._trainer.refit(frame, days, plan, query, rounds))

    def _kept(self, key: str, fit: Callable[[], Fit]) -> Fit:
        """Return the fit that is kept under a key, or make it and keep it."""
        kept = self._folder / key
        if not kept.is_dir():
            made = fit()
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside = Path(tempfile.mkdtemp(dir=self._folder, prefix=".new-"))
            told = {"curves": dict(made.curves), "importance": dict(made.importance), "made_on": dict(made.made_on)}
            rest = _Rest(rows=made.rows, **told)
            for name, data in {**made.files.files, "fit.json": rest.model_dump_json().encode()}.items():
                (aside / name).write_bytes(data)
            try:
                aside.rename(kept)
            except OSError:  # another process was faster; both hold the same bytes
                shutil.rmtree(aside)
            return made
        rest = _Rest.model_validate_json((kept / "fit.json").read_bytes())
        return Fit(files=_model({name: (kept / name).read_bytes() for name in _MODEL}), **rest.model_dump())

    def predict(self, files: ModelFiles, table: pa.Table) -> Floats:
        """See ``ports.Trainer.predict``."""
        return self._trainer.predict(files, table)

    def contributions(self, files: ModelFiles, table: pa.Table) -> Floats:
        """See ``ports.Trainer.contributions``."""
        return self._trainer.contributions(files, table)

    def labels(self, files: ModelFiles, table: pa.Table) -> Floats:
        """See ``ports.Trainer.labels``."""
        return self._trainer.labels(files, table)

    def smoke(self, folder: Path, digest: str, rows: Path, expected: Path | None) -> Tried:
        """See ``ports.Trainer.smoke``."""
        return self._trainer.smoke(folder, digest, rows, expected)

    def linear(self, files: ModelFiles, before: pa.Table, after: pa.Table) -> Floats:
        """See ``ports.Trainer.linear``."""
        return self._trainer.linear(files, before, after)

    def metrics(self, how: Measuring, y: Floats, predictions: Floats, lists: Any = None) -> Mapping[str, float | None]:
        """See ``ports.Trainer.metrics``."""
        return self._trainer.metrics(how, y, predictions, lists)


def _ingredients(
    frame: FeatureFrame, last: date, spans: Sequence[Span], plan: TrainingPlan, query: FeatureQuery
) -> str:
    """Digest all that a fit depends on: the rows up to the last day that it meets, and how they are learnt from."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    rows = frame.table.filter(pc.less_equal(frame.table["dt"], last)).drop_columns(["row_id"])
    rows = rows.combine_chunks().replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as out:
        out.write_table(rows)
    how = [
        *(part.model_dump(mode="json") for part in (plan, *spans)),
        *(query.sql, list(query.hidden), query.target, query.group),
    ]
    # The order of a mapping decides the bytes of schema.json, and a digest of the mapping would not see it.
    columns = json.dumps({name: dict(found) for name, found in frame.columns.items()})
    return digest([code_digest(), how, columns, sha256(sink.getvalue())])


def _model(files: Mapping[str, bytes]) -> ModelFiles:
    schema = ModelSchema.model_validate_json(files["schema.json"])
    return ModelFiles(booster=files["booster.ubj"], features=files["features.sql"].decode(), schema_=schema)


def _place(run_id: str, name: ModelName) -> str:
    return _run(run_id) if name == "model" else f"registry/{name}/{run_id}/"  # a model's folder holds its files alone


def _run(run_id: str) -> str:
    return f"registry/runs/{run_id}/"


def _versions(pipeline: str) -> str:
    return f"registry/versions/{pipeline}/"
