"""Raw rows find the model that serves their segment, and get its very predictions."""

from __future__ import annotations

import dataclasses
import io
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from segment_world import SEGMENTED, TOMORROW, both, columns, landed
from small_world import DAYS, FIRST, NIGHT, ROWS, SPEC, World

from ratchet.adapters.pyfunc import RawRowsModel, raw_features
from ratchet.errors import ActionRefused, ArtifactTampered, DataRejected, ServiceError
from ratchet.serving import Router
from ratchet.steps import segments
from ratchet.steps.rollback import roll_back
from ratchet.steps.route import Champions, route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from pathlib import Path

    import pandas as pd

    from ratchet.domain.models import ModelFiles
    from ratchet.domain.snapshots import StoredObject

NARROW = "SELECT row_id, x + 0 AS x, x * z AS xz, place FROM rows WHERE z > -1"


def raw(world: World, day: date = NIGHT) -> pd.DataFrame:
    """Return a day's landed rows as a client has them, under an index of its own."""
    rows = pq.read_table(io.BytesIO(world.store.get(world.uri(day)))).to_pandas().drop(columns="y").assign(dt=day)
    return rows.set_index(rows["id"] % 7)


def alone(world: World, name: str, version: int, rows: pd.DataFrame, folder: Path) -> Any:
    """Return what a version's own pyfunc predicts of rows."""
    found = next(v for v in world.registry.versions(name) if v.version == version)
    _, files = world.registry.download(found.mlflow_run_id, found.artifact_digest)
    place = folder / f"{name}-{version}"
    place.mkdir(exist_ok=True)
    for file, data in files.files.items():
        (place / file).write_bytes(data)
    return RawRowsModel(place).predict(rows)


@pytest.fixture(scope="module")
def _served(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = landed(World(tmp_path_factory.mktemp("served"), SEGMENTED), TOMORROW)
    both(made)
    return made


@pytest.fixture
def served(_served: World, tmp_path: Path) -> World:
    """A world in which a night has been, with its segments."""
    return _served.copy(tmp_path)


def test_each_row_gets_the_prediction_of_the_model_that_serves_its_segment(served, tmp_path):
    """Own champions where there are any, the global one for all others: not a bit differs from each model's own pyfunc."""
    rows = raw(served, TOMORROW)
    rows.iloc[3, rows.columns.get_loc("place")] = "Atlantis"  # that no night has seen
    found = Router("small", served.services).score(rows)
    assert found.predictions.index.tolist() == list(range(2 * ROWS))
    south = segments.resolve(served.services, "small", "South Side")
    serves = {"north": "small--north", "South Side": south}
    assert found.by["model"].tolist() == [serves.get(place, "small") for place in rows["place"]]
    assert found.by["segment"].tolist() == rows["place"].tolist()
    assert set(found.by["version"]) == {1}
    for name in ("small", "small--north", south):
        here = (found.by["model"] == name).to_numpy()
        assert here.any()
        wanted = alone(served, name, 1, rows, tmp_path)
        assert (found.predictions[here] == wanted[here]).all()
    assert found.predictions.nunique() > len(set(alone(served, "small", 1, rows, tmp_path)))


def test_a_pipeline_without_segments_is_served_by_its_champion(reigning, tmp_path):
    """The predictions are the champion's own, and no segment is told; so it is where segments are not asked for."""
    found = Router("small", reigning.services).score({"rows": raw(reigning)})
    assert (found.predictions == alone(reigning, "small", 1, raw(reigning), tmp_path)).all()
    assert found.table.columns.tolist() == ["prediction", "model", "version"]
    assert found.table["model"].unique().tolist() == ["small"]


def test_segments_that_are_not_asked_for_are_left_alone(served, tmp_path):
    """Where the spec has no segments any more, the global champion serves all."""
    found = Router("small", served.services, segments=False).score(raw(served))
    assert (found.predictions == alone(served, "small", 1, raw(served), tmp_path)).all()


def test_models_of_another_query_run_their_own(tmp_path):
    """A segment's model reads the features of its own query; a row that this leaves out falls back to the global champion."""
    world = landed(World(tmp_path, SEGMENTED), NIGHT)
    night = world.night()
    narrow = world.pipeline().model_copy(update={"sql": NARROW})
    made, error = segments.run_all(night, narrow, world.services)
    assert (made.own, error) == (2, None)
    rows = raw(world)
    found = Router("small", world.services, most=1).score(rows)
    kept = rows["z"].to_numpy() > -1
    north = (rows["place"] == "north").to_numpy()
    assert (found.by["model"] == "small--north").tolist() == (north & kept).tolist()
    assert set(found.by["model"][north & ~kept]) == {"small"}
    assert (
        found.predictions[north & kept] == alone(world, "small--north", 1, rows, tmp_path)[np.flatnonzero(north & kept)]
    ).all()
    assert (found.predictions[north & ~kept] == alone(world, "small", 1, rows, tmp_path)[north & ~kept]).all()


def test_without_a_global_champion_segments_serve_their_own_rows(served, tmp_path):
    """Rows of segments with a champion are scored; where others are among them, the words name these."""
    for key in served.store.keys("ledger/small/"):
        served.store.delete(key)
    served.registry._anchors.pop("small", None)
    rows = raw(served)
    router = Router("small", served.services)
    found = router.score(rows[rows["place"] == "north"])
    assert set(found.by["model"]) == {"small--north"}
    with pytest.raises(
        ActionRefused, match=r"no global champion, and \d+ rows have .*: they are of islet and \d+ have no place"
    ):
        router.score(rows)


def test_a_turn_of_a_ledger_is_seen_when_it_is_asked_for_again(served):
    """Whoever is promoted or rolled back serves from the next look at the ledgers on, and not before."""
    patient, eager = (Router("small", served.services, refresh_s=s) for s in (inf, 0.0))
    rows = raw(served)
    rows = rows[rows["place"] == "north"]

    def versions() -> list[set[int]]:
        return [set(router.score(rows).by["version"]) for router in (patient, eager)]

    assert versions() == [{1}, {1}]
    both(served, TOMORROW)
    entries = served.services.ledger.entries("small--north")
    assert [entry.champion.version for entry in entries] == [1, 2]
    assert versions() == [{1}, {2}]
    roll_back(served.services, served.pipeline().of_segment("north"), to=None, actor="olga", reason="it was better")
    assert versions() == [{1}, {1}]


class Down:
    """A store that lists nothing for a while."""

    def __init__(self, store: Any) -> None:
        self._store, self.down = store, False

    def __getattr__(self, name: str) -> Any:
        """Leave all else to the store."""
        return getattr(self._store, name)

    def list(self, uri: str, *, versions: bool = False) -> Iterator[StoredObject]:
        """See ``ports.ObjectStore.list``."""
        if self.down:
            raise ServiceError("s3", "listing", "no answer")
        return self._store.list(uri, versions=versions)


def test_while_the_store_is_away_the_known_champions_serve(served, caplog):
    """Who serves is taken to be as before, and the log says so."""
    store = Down(served.store)
    router = Router("small", dataclasses.replace(served.services, store=store), refresh_s=0.0)
    before = router.score(raw(served)).table
    store.down = True
    assert router.score(raw(served)).table.equals(before)
    assert "who serves cannot be asked, it is taken to be as before" in caplog.text


def test_what_nobody_serves_is_refused(served, tmp_path):
    """Without any champion, and for a segment's own name, the words say what to do."""
    with pytest.raises(ActionRefused, match="it is a segment; ask for small"):
        Router("small--north", served.services)
    empty = World(tmp_path / "empty", SPEC)
    with pytest.raises(ActionRefused, match="it has no champion yet"):
        Router("small", empty.services).score(raw(served))


def test_rows_that_a_query_does_not_read_are_refused_with_the_model_that_asks(served):
    """The words name the model, the table and the column."""
    with pytest.raises(DataRejected, match=r"^schema: small version 1: table 'rows' lacks z; it has id, x, place, dt"):
        Router("small", served.services).score(raw(served).drop(columns="z"))


def test_a_model_that_was_changed_scores_nothing(served):
    """The bytes are checked against the ledger before any of them is read."""
    run = next(v for v in served.registry.versions("small--north")).mlflow_run_id
    files = served.registry.runs[run].model
    files["booster.ubj"] = files["booster.ubj"][:-1] + b"x"
    with pytest.raises(ArtifactTampered):
        Router("small", served.services).score(raw(served))


def test_classes_that_a_segment_has_never_met_get_nothing_from_its_model(tmp_path):
    """Columns are the classes of all models; a model gives 0 to one that it does not know, and the others are its own to the bit."""
    spec = yaml.safe_load(SEGMENTED)
    spec["target"] = {"task": "multiclass", "sql": "kind"}
    spec["training"] |= {"rounds": 10, "params": {"max_depth": 2, "eta": 0.5}}
    spec["source"]["unknown_at_prediction"] = ["y", "kind"]
    spec["gates"] = [{"kind": "bound", "metric": "accuracy", "at_least": 0.1, "min_rows": 50}]
    world = World(tmp_path, yaml.safe_dump(spec))
    for i in range(DAYS):
        random = np.random.default_rng(i)
        given = columns(random, FIRST, 2 * ROWS)
        tells = np.where(np.array(given["place"]) == "north", given["x"], given["z"])
        far = np.abs(tells) + 0.2 * random.normal(size=2 * ROWS)
        lower = np.where(far < 0.6, "low", "mid")
        kind = np.where((far > 1.1) & (np.array(given["place"]) == "north"), "high", lower)
        world.land(FIRST + (NIGHT - FIRST) / (DAYS - 1) * i, **given, kind=kind)
    _, made, error = both(world)
    assert error is None
    assert "South Side" in {segment.value for segment in made.segments if segment.serves == "own"}, made.words
    rows = raw(world).drop(columns="kind")
    found = Router("small", world.services).score(rows)
    south = (rows["place"] == "South Side").to_numpy()
    name = segments.resolve(world.services, "small", "South Side")
    assert found.predictions.columns.tolist() == ["high", "low", "mid"]
    own = alone(world, name, 1, rows, tmp_path)
    assert own.columns.tolist() == ["low", "mid"]
    assert (found.predictions.loc[south, ["low", "mid"]].to_numpy() == own[south].to_numpy()).all()
    assert set(found.predictions.loc[south, "high"]) == {0.0}
    assert found.table.columns.tolist()[:3] == ["prediction_high", "prediction_low", "prediction_mid"]


class Turning:
    """A ledger that turns while it is read: who reads it once gets what was there before."""

    def __init__(self, ledger: Any, turn: Callable[[], None]) -> None:
        self._ledger, self._turn = ledger, turn
        self.turned = False

    def __getattr__(self, name: str) -> Any:
        """Leave all else to the ledger."""
        return getattr(self._ledger, name)

    def entries(self, pipeline: str) -> Any:
        """See ``ports.Ledger.entries``."""
        found = self._ledger.entries(pipeline)
        if pipeline == "small--north" and not self.turned:
            self.turned = True
            self._turn()
        return found


def test_a_ledger_that_turns_while_it_is_read_is_read_again(served):
    """One thread reads who serves, another asks anew meanwhile: what the first has read is not taken for what is there now."""

    def turn() -> None:
        both(served, TOMORROW)
        champions.refresh()

    ledger = Turning(served.services.ledger, turn)
    champions = Champions(dataclasses.replace(served.services, ledger=ledger), "small")
    champions.version("small--north")
    assert ledger.turned
    serves = champions.version("small--north")
    assert serves is not None
    assert serves.version == 2


def test_without_a_global_champion_somebody_has_to_know_the_column(served):
    """Where no segment's query tells whose the rows are, none of them is scored: one segment's model would score the rows of all."""
    for key in served.store.keys("ledger/small/"):
        served.store.delete(key)
    served.registry._anchors.pop("small", None)
    rows = raw(served)

    def features(files: ModelFiles) -> Any:
        return raw_features(files.schema_, files.features, rows).drop_columns("place")

    with pytest.raises(ActionRefused, match="it has no champion, and no segment's query knows place"):
        route(served.services, Champions(served.services, "small"), features)
