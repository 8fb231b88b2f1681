"""Raw rows of any segment to the model that serves them: the segment's own champion where there is one, else the global one.

Who serves is what the ledgers say. One listing of the store tells which have turned since they were read last, so a service asks
again and again at little cost. Models are brought here by the digests that stand in the ledgers, and only those that rows ask for.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ratchet.domain import layout
from ratchet.domain.segments import name_of, parent_of, slug_of, visible
from ratchet.errors import ActionRefused, DataRejected
from ratchet.steps import overview, turns
from ratchet.steps.by_segment import codes_of
from ratchet.steps.champion import champion_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from ratchet.domain.models import ModelFiles, ModelVersion
    from ratchet.steps.context import Services
    from ratchet.tables import Floats

    Features = Callable[[ModelFiles], pa.Table]  # a model's features query, run over the rows that are asked about

ASKED = "scoring"
AT_ONCE = 8  # ledgers that are read, and models that are brought here, at once
_SHOWN = 10  # segments that a message names


class Model(NamedTuple):
    """A champion, ready to score."""

    name: str  # of the pipeline, or of the segment
    version: ModelVersion
    files: ModelFiles

    @property
    def words(self) -> str:
        """Say which it is."""
        return f"{self.name} version {self.version.version}"

    @property
    def query(self) -> str:
        """Of two models with the same, one features frame holds what both read."""
        return json.dumps([self.files.features, self.files.schema_.tables])


class Routed(NamedTuple):
    """Rows with their predictions, in order, and who made each."""

    rows: np.ndarray  # of each prediction, its row's place in the input
    predictions: Floats  # one for each row, or a column for each of ``outputs``
    outputs: tuple[str, ...]  # classes or quantiles
    models: tuple[Model, ...]
    by: np.ndarray  # of each row, the place of its model in ``models``
    segments: tuple[str | None, ...] | None  # of each row; None: no night has made segments


class Champions:
    """Who serves a pipeline and each of its segments, as the ledgers said when they were last asked; several threads may share it.

    Args:
        services: the adapters.
        pipeline: whose champions.
        segments: False: all rows go to the global champion.
        most: models that are held in memory; others are read from the local cache when they are needed.
    """

    def __init__(self, services: Services, pipeline: str, *, segments: bool = True, most: int = 256) -> None:
        if parent_of(pipeline) != pipeline:
            why = f"it is a segment; ask for {parent_of(pipeline)}, whose rows find their segments' models"
            raise ActionRefused(ASKED, pipeline, why)
        self.pipeline = pipeline
        self._services, self._segments, self._most = services, segments, most
        self._lock = threading.Lock()
        self._marks: dict[str, list[str]] = {}  # by name: what its ledger consists of
        self._versions: dict[str, ModelVersion | None] = {}  # of the ledgers that have been read
        self._models: OrderedDict[str, ModelFiles] = OrderedDict()  # by digest, the one used last comes last
        self.by: str | None = None  # the column; None: there are no segments
        self.refresh()

    def refresh(self) -> None:
        """Ask anew who serves: a night, or a person, may have turned a ledger."""
        newest = overview.newest(self._services, self.pipeline) if self._segments else None
        marks = self._listed(
            [layout.ledger(self.pipeline), *([layout.ledgers_of_segments(self.pipeline)] if newest else [])]
        )
        with self._lock:
            self._versions = {n: v for n, v in self._versions.items() if marks.get(n, []) == self._marks.get(n, [])}
            self._marks, self.by = marks, newest.by if newest else None

    def _listed(self, prefixes: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for prefix in prefixes:
            for stored in self._services.store.list(prefix):
                found.setdefault(stored.uri.rsplit("/", 2)[-2], []).append(f"{stored.uri} {stored.etag} {stored.size}")
        return found

    def version(self, name: str) -> ModelVersion | None:
        """Return who serves by one ledger; None: nobody does.

        Raises:
            LedgerBroken: the ledger does not hold.
        """
        with self._lock:
            marks = self._marks
            if name in self._versions:
                return self._versions[name]
        if name != self.pipeline and name not in marks:  # a segment that never had one
            return None
        found = champion_version(turns.look(self._services, name))
        with self._lock:
            if self._marks.get(name) == marks.get(name):  # else it has turned while it was read
                self._versions[name] = found
        return found

    def own(self, slugs: Sequence[str]) -> dict[str, ModelVersion]:
        """Return the champions of segments that have one of their own, by name."""
        names = [name for slug in slugs if (name := name_of(self.pipeline, slug)) in self._marks]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(zip(names, pool.map(self.version, names), strict=True))
        return {name: version for name, version in found.items() if version}

    @property
    def segments(self) -> tuple[str, ...]:
        """Slugs of the segments that have a ledger."""
        return tuple(
            name.removeprefix(name_of(self.pipeline, "x")[:-1]) for name in self._marks if name != self.pipeline
        )

    def model(self, name: str, version: ModelVersion) -> Model:
        """Bring a version's model here, by its digest.

        Raises:
            ArtifactTampered: the registry holds other bytes. ObjectNotFound: it holds none.
        """
        digest = version.artifact_digest
        with self._lock:
            files = self._models.pop(digest, None)
        files = files or self._services.registry.download(version.mlflow_run_id, digest)[1]
        with self._lock:
            self._models[digest] = files
            while len(self._models) > self._most:
                self._models.popitem(last=False)
        return Model(name, version, files)

    def models(self, wanted: Mapping[str, ModelVersion]) -> Iterator[Model]:
        """Bring models here, a few at once, in order."""
        names = list(wanted)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(names), AT_ONCE):
                yield from pool.map(lambda name: self.model(name, wanted[name]), names[start : start + AT_ONCE])


def route(services: Services, champions: Champions, features: Features) -> Routed:
    """Score rows, each with the model that serves its segment.

    Which segment a row is in says the global champion's query; where there is no such champion, or its query has no such column, that of
    the first segment's that has. A row that its segment's own query leaves out falls back to the global champion.

    Args:
        services: the adapters.
        champions: who serves.
        features: runs a model's features query.

    Raises:
        ActionRefused: nobody serves, or nobody serves some of the rows.
        DataRejected: ``schema`` or ``non_finite``: the rows are not what a model's query reads; the words name the model.
    """
    frames, by = _Frames(features), champions.by  # another thread may ask anew meanwhile
    version = champions.version(champions.pipeline)
    top = champions.model(champions.pipeline, version) if version else None
    teller = _teller(champions, top, frames, by)
    frame = frames.of(teller)
    out = _Gathered(services, _row_ids(frame), teller)
    if by is None or by not in frame.column_names:
        out.score(teller, frame, out.rows)
        return out.made(None)
    codes, values = codes_of(frame[by])
    texts, slugs = (*values, None), [slug_of(value) for value in values]
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(values) + 1))
    places = {name_of(champions.pipeline, slug): order[bounds[i] : bounds[i + 1]] for i, slug in enumerate(slugs)}
    own = champions.own(slugs)
    queries = {model.name: model.query for model in champions.models(own)}
    for model in champions.models({name: own[name] for name in sorted(own, key=lambda name: (queries[name], name))}):
        out.score(model, frames.of(model), out.rows[places[model.name]])
    left = out.by < 0
    if top and left.any():
        out.score(top, frames.of(top), out.rows[left])
    elif left.any():
        raise ActionRefused(ASKED, champions.pipeline, _unserved(by, [texts[int(i)] for i in codes[left]]))
    return out.made([texts[int(i)] for i in codes])


class _Frames:
    """Feature frames of the rows, one for each query among the models; that of the last query and the first are held."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._held: OrderedDict[str, pa.Table] = OrderedDict()

    def of(self, model: Model) -> pa.Table:
        """Return the frame that a model reads."""
        if model.query not in self._held:
            if len(self._held) > 1:
                self._held.popitem()
            try:
                self._held[model.query] = self._features(model.files)
            except DataRejected as exc:
                raise DataRejected(exc.reason, f"{model.words}: {exc.detail}") from exc
        return self._held[model.query]


class _Gathered:
    """Predictions as they come in, model by model.

    Args:
        services: the adapters.
        rows: that are asked about, in order.
        like: the model whose predictions the others' have to be like.
    """

    def __init__(self, services: Services, rows: np.ndarray, like: Model) -> None:
        self._services, self.rows, self._like = services, rows, like
        self._models: list[Model] = []
        self._found: list[tuple[np.ndarray, Floats]] = []  # places and predictions, by model
        self.by = np.full(len(rows), -1, dtype=np.int32)

    def score(self, model: Model, frame: pa.Table, rows: np.ndarray) -> None:
        """Let a model score some of the rows: those that its query has not left out.

        Raises:
            ActionRefused: its predictions are of another kind than the other models'.
        """
        import pyarrow as pa  # noqa: PLC0415

        like = self._like.files.schema_
        if strange := model.files.schema_.strange_to(like.task, like.quantiles):
            raise ActionRefused(ASKED, model.name, f"{model.words} beside {self._like.words}: {strange}")
        there = _row_ids(frame)
        at = np.searchsorted(there, rows)
        kept = at < len(there)
        kept[kept] = there[at[kept]] == rows[kept]
        part = frame if kept.sum() == len(there) else frame.take(pa.array(at[kept]))
        places = np.searchsorted(self.rows, rows[kept])
        self.by[places] = len(self._models)
        self._models.append(model)
        self._found.append((places, self._services.trainer.predict(model.files, part)))

    def made(self, segments: Sequence[str | None] | None) -> Routed:
        """Put all into the order of the rows; those that no query has kept are left out."""
        outputs = _outputs([self._like, *self._models])
        scores = np.zeros((len(self.rows), len(outputs)) if outputs else len(self.rows))
        for model, (places, predictions) in zip(self._models, self._found, strict=True):
            own = _outputs([model])
            if own == outputs:
                scores[places] = predictions
            else:  # a class that a model never met gets 0 from it, as in evaluation
                scores[places[:, None], np.array([outputs.index(name) for name in own])] = predictions
        kept = np.flatnonzero(self.by >= 0)
        return Routed(
            rows=self.rows[kept],
            predictions=scores[kept],
            outputs=outputs,
            models=tuple(self._models),
            by=self.by[kept],
            segments=None if segments is None else tuple(segments[int(i)] for i in kept),
        )


def _teller(champions: Champions, top: Model | None, frames: _Frames, by: str | None) -> Model:
    """Return the model whose query says in which segment a row is: the global champion's, unless it does not know the column.

    Raises:
        ActionRefused: nobody serves, or nobody's query knows the column.
    """
    if by is None and top is None:
        raise ActionRefused(ASKED, champions.pipeline, "it has no champion yet; a night has to promote one")
    if top is not None and (by is None or by in frames.of(top).column_names):
        return top
    own = champions.own(sorted(champions.segments))
    for model in champions.models(own):
        if by in frames.of(model).column_names:
            return model
    if top is not None:
        return top
    why = "neither it nor a segment has a champion yet; a night has to promote one"
    if own:
        why = f"it has no champion, and no segment's query knows {by}, which says what the segments are; a night has to promote one that does"
    raise ActionRefused(ASKED, champions.pipeline, why)


def _outputs(models: Sequence[Model]) -> tuple[str, ...]:
    """Return the names of a prediction's numbers where it has several: of all classes that a model knows, those of the first come first."""
    schemas = [model.files.schema_ for model in models]
    if schemas[0].task == "quantile":
        return tuple(map(str, schemas[0].quantiles))
    several = [name for schema in schemas for name in schema.classes if schema.task == "multiclass"]
    return tuple(dict.fromkeys(several))


def _row_ids(frame: pa.Table) -> np.ndarray:
    return np.asarray(frame["row_id"].to_numpy(), dtype=np.int64)


def _unserved(by: str, texts: Sequence[str | None]) -> str:
    named = sorted({text for text in texts if text is not None})
    some = ", ".join(visible(text) for text in named[:_SHOWN]) + (
        f" and {len(named) - _SHOWN} more" if named[_SHOWN:] else ""
    )
    without = f"{sum(text is None for text in texts)} have no {by}" if None in texts else ""
    whose = " and ".join(part for part in (f"they are of {some}" if some else "", without) if part)
    return (
        f"there is no global champion, and {len(texts)} rows have no segment's of their own: {whose}. Leave these rows out, or let a night "
        "promote a global champion"
    )
