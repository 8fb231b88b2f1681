"""MLflow: tracking and the model registry, through its client only (no fluent state, which forked tasks would share)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from functools import cached_property
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ratchet.domain.models import ModelFiles, ModelName, ModelSchema, ModelVersion, files_digest
from ratchet.domain.retention import TrackedRun
from ratchet.domain.segments import parent_of
from ratchet.errors import (
    ArtifactTampered,
    ObjectNotFound,
    RatchetError,
    ServiceError,
    ServiceRefused,
    without_credentials,
)
from ratchet.local_cache import use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ratchet.ports import DatasetUsed

_LOG = logging.getLogger("ratchet")
_FILES = ("booster.ubj", "features.sql", "schema.json")
_TAGS = ("run_key", "artifact_digest", "seen_through", "cutoff", "recipe", "recipe_spec")
_RUN_TAGS = ("run_key", "cutoff", "snapshot", "dry_run")
_ANCHOR = "ratchet.ledger."  # followed by an entry's number: a tag of the registered model
_SCORING_NEEDS = ("duckdb", "numpy", "pandas", "pyarrow", "pydantic", "xgboost")
_SET_TRIES = 3
_LIVES = 2 * 24 * 3600.0  # seconds; a run that began earlier and never ended belongs to a process that was killed
_MOST_DIGEST = 36  # characters of a dataset's digest
_MOST_SCHEMA = 1_000_000  # characters
_MLFLOW_TYPES = {
    "BOOLEAN": "boolean",
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT"), "integer"),
    **dict.fromkeys(("BIGINT", "UINTEGER", "UBIGINT", "HUGEINT", "UHUGEINT"), "long"),
    "FLOAT": "float",
    **dict.fromkeys(("DOUBLE", "DECIMAL"), "double"),
    "BLOB": "binary",
    **dict.fromkeys(("DATE", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S"), "datetime"),
    "TIMESTAMP WITH TIME ZONE": "datetime",
}
_MOST_PARAMS = 100  # MLflow takes no more in one request


class MlflowRegistry:
    """Fulfils ``ports.Registry``.

    Args:
        tracking_uri: of an MLflow server with a SQL store.
        cache: folder in which downloaded models are kept by digest.
    """

    def __init__(self, tracking_uri: str, cache: Path) -> None:
        self.tracking_uri = tracking_uri.rstrip("/")
        self._shown = without_credentials(self.tracking_uri)
        self.cache = cache
        self._experiments: dict[str, str] = {}

    @cached_property
    def client(self) -> Any:
        """The MLflow client; built on first use because importing it takes seconds."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # Artifacts come through the server, which may be the only one that reaches the object store.
        os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output is ours
        from mlflow import MlflowClient

        return MlflowClient(self.tracking_uri, self.tracking_uri)

    def start_run(self, pipeline: str, run_key: str, name: str, tags: Mapping[str, str], parent: str = "") -> str:
        """See ``ports.Registry.start_run``."""
        with _translated(f"starting a run of {pipeline}"):
            if not parent:
                self._end_killed(pipeline, run_key)
            below = {"mlflow.parentRunId": parent} if parent else {}
            run = self.client.create_run(
                self._experiment(pipeline), run_name=name, tags={**tags, **below, "ratchet.run_key": run_key}
            )
            return str(run.info.run_id)

    def resume_run(self, pipeline: str, run_key: str, run_id: str) -> None:
        """See ``ports.Registry.resume_run``."""
        with _translated(f"going on with run {run_id}"):
            self._end_killed(pipeline, run_key)
            self.client.update_run(run_id, "RUNNING")

    def _end_killed(self, pipeline: str, run_key: str) -> None:
        """Mark what a process that was killed has left running; should it live after all, it ends its run itself."""
        ours = f"tags.`ratchet.run_key` = '{run_key}' and attributes.status = 'RUNNING'"
        for run in self.client.search_runs([self._experiment(pipeline)], ours):
            self.client.set_terminated(run.info.run_id, "KILLED")

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
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, 0) for name, value in (metrics or {}).items()]
        points += [Metric(name, v, now, i) for name, values in (curves or {}).items() for i, v in enumerate(values)]
        given = [Param(name, value[:6000]) for name, value in list((params or {}).items())[:_MOST_PARAMS]]
        with _translated(f"logging to run {run_id}"):
            self.client.log_batch(
                run_id, metrics=points[:1000], params=given, tags=[RunTag(k, v[:5000]) for k, v in (tags or {}).items()]
            )
            if files:
                self._upload(run_id, files, "")

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetUsed]) -> None:
        """See ``ports.Registry.log_inputs``."""
        from mlflow.entities import DatasetInput, InputTag

        inputs = []
        for used in datasets:
            # The server keeps one record of a name and digest: the same bytes in another bucket are told by the tag alone.
            tags = {
                "mlflow.data.context": "training",
                "ratchet.snapshot": used.snapshot,
                "ratchet.source": used.uri[:500],
            }
            inputs.append(DatasetInput(_dataset(used), [InputTag(name, value) for name, value in tags.items()]))
        with _translated(f"logging the datasets of run {run_id}"):
            _set(lambda: self.client.log_inputs(run_id, inputs))

    def log_model(self, run_id: str, files: ModelFiles, name: ModelName = "model") -> None:
        """See ``ports.Registry.log_model``."""
        self._upload(
            run_id,
            {**_described(run_id, name), **{f"data/{file}": data for file, data in files.files.items()}},
            name,
        )

    def _upload(self, run_id: str, files: Mapping[str, bytes], path: str) -> None:
        with tempfile.TemporaryDirectory(prefix="ratchet-") as folder:
            for name, data in files.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            with _translated(f"storing artifacts of run {run_id}"):
                self.client.log_artifacts(run_id, folder, path or None)

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        """See ``ports.Registry.finish``."""
        with _translated(f"ending run {run_id}"):
            self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def discard(self, run_id: str) -> None:
        """See ``ports.Registry.discard``."""
        with _translated(f"discarding run {run_id}"):
            self.client.delete_run(run_id)

    def tracked(self, pipeline: str) -> Sequence[TrackedRun]:
        """See ``ports.Registry.tracked``."""
        found: list[Any] = []
        token: str | None = None
        ours = f"tags.`ratchet.pipeline` = '{pipeline}'"
        with _translated(f"listing runs of {pipeline}"):
            while True:
                page = self.client.search_runs([self._experiment(pipeline)], ours, max_results=1000, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        return [made for run in found if (made := _tracked(run))]

    def erase(self, run_id: str) -> str | None:
        """See ``ports.Registry.erase``."""
        from mlflow.exceptions import MlflowException
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        left = None
        with _translated(f"deleting run {run_id}"):
            uri = self.client.get_run(run_id).info.artifact_uri
            try:
                store = get_artifact_repository(uri, self.tracking_uri, self.tracking_uri)
                for file in store.list_artifacts():
                    store.delete_artifacts(file.path)
            except (MlflowException, NotImplementedError, OSError) as exc:
                left = f"the artifacts of run {run_id} could not be deleted: {without_credentials(str(exc))[:200]}"
            self.client.delete_run(run_id)
        return left

    def register(self, pipeline: str, version: Mapping[str, str], run_id: str) -> ModelVersion:
        """See ``ports.Registry.register``."""
        tags = {f"ratchet.{name}": version[name] for name in _TAGS}
        with _translated(f"registering a version of {pipeline}"):
            self._ensure_model(pipeline)
            made = self.client.create_model_version(
                pipeline, source=f"runs:/{run_id}/model", run_id=run_id, tags=tags, await_creation_for=None
            )
        first = self.version_of(pipeline, version["run_key"])
        if first is None or first.version == int(made.version):
            return _version(made, tags)
        self.delete_version(
            pipeline, int(made.version)
        )  # the client asked again after a lost reply, or another was faster
        return first

    def version_of(self, pipeline: str, run_key: str) -> ModelVersion | None:
        """See ``ports.Registry.version_of``."""
        return next((v for v in reversed(self.versions(pipeline)) if v.run_key == run_key), None)

    def versions(self, pipeline: str) -> Sequence[ModelVersion]:
        """See ``ports.Registry.versions``."""
        found: list[Any] = []
        token: str | None = None
        with _translated(f"listing versions of {pipeline}"):
            while True:
                page = self.client.search_model_versions(f"name='{pipeline}'", max_results=200, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        ours = [made for v in found if (made := _ours(v))]
        return sorted(ours, key=lambda v: -v.version)

    def delete_version(self, pipeline: str, version: int) -> None:
        """See ``ports.Registry.delete_version``."""
        with _translated(f"deleting version {version} of {pipeline}"):
            self.client.delete_model_version(pipeline, str(version))

    def download(
        self, run_id: str, digest: str, *, fresh: bool = False, name: ModelName = "model"
    ) -> tuple[Path, ModelFiles]:
        """See ``ports.Registry.download``."""
        folder = self.cache / "models" / digest
        if fresh:
            _remove(folder)
        if not use(self.cache, folder):
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pull-") as made:
                got = Path(made) / "data"
                got.mkdir()
                self._pull(run_id, got, name)
                with contextlib.suppress(OSError):  # another process was faster; both hold the same bytes
                    got.rename(folder)
        files = {name: (folder / name).read_bytes() for name in _FILES}
        found = files_digest(files)
        if found != digest:
            _remove(folder)  # once the artifact is mended, a bad copy must not stand in its way
            raise ArtifactTampered(f"the model of MLflow run {run_id}", digest, found)
        schema = ModelSchema.model_validate_json(files["schema.json"])
        return folder, ModelFiles(booster=files["booster.ubj"], features=files["features.sql"].decode(), schema_=schema)

    def _pull(self, run_id: str, folder: Path, model: ModelName) -> None:
        """Bring a model's files into a folder.

        ``MlflowClient.download_artifacts`` says of every fault that the path is wrong; here one that may pass is told from
        a file that is not there.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        doing, place = f"downloading the model of run {run_id}", f"{self._shown} run {run_id} artifact {model}/data"
        with _translated(doing, place):
            uri = self.client.get_run(run_id).info.artifact_uri
            store = get_artifact_repository(uri, self.tracking_uri, self.tracking_uri)
            there = {Path(found.path).name for found in store.list_artifacts(f"{model}/data")}
        for name in _FILES:
            if name not in there:
                raise ObjectNotFound(f"{place}/{name}")
            with _translated(doing, f"{place}/{name}"):
                store._download_file(f"{model}/data/{name}", str(folder / name))  # noqa: SLF001  the public one, see above

    def alias(self, pipeline: str, alias: str) -> int | None:
        """See ``ports.Registry.alias``."""
        with _translated(f"reading alias {alias} of {pipeline}"):
            model = self._model(pipeline)
            found = model.aliases.get(alias) if model else None
            return int(found) if found else None

    def aliases(self, pipeline: str) -> Mapping[str, int]:
        """See ``ports.Registry.aliases``."""
        with _translated(f"reading the aliases of {pipeline}"):
            model = self._model(pipeline)
        return {name: int(version) for name, version in model.aliases.items()} if model else {}

    def set_alias(self, pipeline: str, alias: str, version: int) -> None:
        """See ``ports.Registry.set_alias``."""
        with _translated(f"pointing alias {alias} of {pipeline} at version {version}"):
            _set(lambda: self.client.set_registered_model_alias(pipeline, alias, str(version)))

    def anchors(self, pipeline: str) -> Mapping[int, str]:
        """See ``ports.Registry.anchors``."""
        with _translated(f"reading the ledger anchors of {pipeline}"):
            model = self._model(pipeline)
            tags: Mapping[str, str] = model.tags if model else {}
        return {
            int(name.removeprefix(_ANCHOR)): value
            for name, value in tags.items()
            if name.startswith(_ANCHOR) and name.removeprefix(_ANCHOR).isdecimal()
        }

    def anchor(self, pipeline: str, seq: int, entry_hash: str) -> None:
        """See ``ports.Registry.anchor``."""
        with _translated(f"anchoring ledger entry {seq} of {pipeline}"):
            if seq == 1:
                self._ensure_model(pipeline)
            _set(lambda: self.client.set_registered_model_tag(pipeline, f"{_ANCHOR}{seq:08d}", entry_hash))

    def run_url(self, pipeline: str, run_id: str) -> str:
        """See ``ports.Registry.run_url``."""
        return f"{self._shown}/#/experiments/{self._experiment(pipeline)}/runs/{run_id}"

    def version_url(self, pipeline: str, version: int) -> str:
        """See ``ports.Registry.version_url``."""
        return f"{self._shown}/#/models/{pipeline}/versions/{version}"

    def _experiment(self, pipeline: str) -> str:
        pipeline = parent_of(pipeline)  # the runs of its segments stand beside its own
        if pipeline not in self._experiments:
            from mlflow.exceptions import MlflowException

            found = self.client.get_experiment_by_name(pipeline)
            if found is None:
                try:
                    self._experiments[pipeline] = str(self.client.create_experiment(pipeline))
                except MlflowException:  # another night made it a moment ago
                    found = self.client.get_experiment_by_name(pipeline)
            if found is not None:
                self._experiments[pipeline] = str(found.experiment_id)
        return self._experiments[pipeline]

    def _model(self, pipeline: str) -> Any | None:
        """Return the registered model, or None where nothing was ever registered."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_registered_model(pipeline)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _ensure_model(self, pipeline: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(pipeline)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _remove(folder: Path) -> None:
    """Remove a model from the cache, aside first, so that no other process sees half of it."""
    aside = folder.with_name(f".gone-{os.getpid()}-{folder.name}")
    with contextlib.suppress(OSError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _ours(found: Any) -> ModelVersion | None:
    """Return a version that a night has made; one whose tags a hand has made unreadable is nobody's, and stops nothing."""
    if not all(f"ratchet.{name}" in found.tags for name in _TAGS):
        return None
    try:
        return _version(found, found.tags)
    except ValidationError as exc:
        wrong = exc.errors()[0]
        _LOG.warning(
            "version %s of %s is left out: tag ratchet.%s: %s", found.version, found.name, wrong["loc"][0], wrong["msg"]
        )
        return None


def _version(found: Any, tags: Mapping[str, str]) -> ModelVersion:
    return ModelVersion.model_validate(
        {
            "version": int(found.version),
            "mlflow_run_id": found.run_id,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.creation_timestamp / 1000)),
            **{name: tags[f"ratchet.{name}"] for name in _TAGS},
        }
    )


def _dataset(used: DatasetUsed) -> Any:
    """Return a table as MLflow's dataset record. Its digest has room for 36 characters; a tag of the input holds the whole."""
    from mlflow.entities import Dataset

    columns = [{"name": name, "type": _mlflow_type(kind), "required": False} for name, kind in used.columns.items()]
    while len(schema := json.dumps({"mlflow_colspec": columns})) > _MOST_SCHEMA:
        columns = columns[: len(columns) // 2]
    return Dataset(
        name=used.name[:500],
        digest=used.snapshot[:_MOST_DIGEST],
        source_type="s3",
        source=json.dumps({"uri": used.uri}),
        schema=schema,
        profile=json.dumps({"num_rows": used.rows, "num_objects": used.objects}),
    )


def _mlflow_type(kind: str) -> str:
    """Return MLflow's name for a DuckDB type; what it has none for is called a string."""
    plain = kind.partition("(")[0].upper()
    return "string" if kind.endswith("]") else _MLFLOW_TYPES.get(plain, "string")


def _tracked(run: Any) -> TrackedRun | None:
    """Return a run that a night has made; one that lacks a tag, or has one that cannot be read, is not touched."""
    tags = run.data.tags
    if not all(f"ratchet.{name}" in tags for name in _RUN_TAGS):
        return None
    facts = {
        "run_id": run.info.run_id,
        "run_key": tags["ratchet.run_key"],
        "cutoff": tags["ratchet.cutoff"],
        "snapshot": tags["ratchet.snapshot"],
        "dry_run": tags["ratchet.dry_run"] == "true",
        "running": run.info.status == "RUNNING" and time.time() - run.info.start_time / 1000 < _LIVES,
    }
    with contextlib.suppress(ValidationError):
        return TrackedRun.model_validate(facts)
    return None


def _described(run_id: str, name: ModelName) -> dict[str, bytes]:
    """Return the files that make the model an MLflow pyfunc of data only: no pickle, no code."""
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    needs = [f"{name}=={installed(name)}" for name in _SCORING_NEEDS]
    model = Model(artifact_path=name, run_id=run_id)
    add_to_model(model, loader_module="ratchet.adapters.pyfunc", data="data", python_env="python_env.yaml")
    python_env = {
        "python": platform.python_version(),
        "build_dependencies": [],
        "dependencies": ["-r requirements.txt"],
    }
    return {
        "MLmodel": model.to_yaml().encode(),
        "requirements.txt": "\n".join(needs).encode(),
        "python_env.yaml": json.dumps(python_env).encode(),
    }


def _set(ask: Callable[[], object]) -> None:
    """Ask again where two processes have named a new thing at once: MLflow's database tells one of them that it exists."""
    from mlflow.exceptions import MlflowException

    for tries in range(1, _SET_TRIES + 1):
        try:
            ask()
        except MlflowException as exc:
            if exc.error_code != "BAD_REQUEST" or tries == _SET_TRIES:
                raise
        else:
            return


@contextlib.contextmanager
def _translated(doing: str, artifact: str | None = None) -> Iterator[None]:
    """Turn MLflow's errors into ours."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as exc:
        status = exc.get_http_status_code()
        gone = exc.error_code == "RESOURCE_DOES_NOT_EXIST" or "404 Client Error" in str(exc)
        if artifact and gone:
            raise ObjectNotFound(artifact) from exc
        refused = status in {400, 401, 403, 404}
        raise (ServiceRefused if refused else ServiceError)("MLflow", doing, exc.message[:500]) from exc
    except RatchetError:
        raise
    except OSError as exc:  # requests' errors are OSErrors
        raise ServiceError("MLflow", doing, exc) from exc
