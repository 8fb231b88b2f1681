"""Nights over data of other shapes and tasks than flights, by the command line, on real servers."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samples.data import SAMPLES

if TYPE_CHECKING:
    from integration.conftest import World

CUTOFF = date(2024, 3, 9)
DAY = timedelta(days=1)


def land(world: World, name: str, first: date = date(2024, 1, 20), last: date = CUTOFF) -> None:
    """Land a sample's objects in this world's bucket."""
    for key, data in SAMPLES[name](first, last):
        world.store.put(key, data)


@pytest.mark.parametrize(
    ("name", "metric"),
    [("energy", "rmse"), ("tickets", "accuracy"), ("churn", "auc"), ("deliveries", "coverage"), ("searches", "ndcg")],
    ids=["regression", "multiclass", "binary", "quantile", "ranking"],
)
def test_night_promotes_a_first_model_and_is_the_same_when_run_again(world: World, name: str, metric: str) -> None:
    """The first night of each sample bootstraps a champion; the same night again changes nothing and says the same."""
    land(world, name)
    status, first, errors = world.night(name, CUTOFF)
    assert (status, first["outcome"]) == (0, "promoted"), (first, errors)
    assert first["champion"] == {"version": first["model_version"], "run_key": first["run_key"]}
    assert isinstance(first["metrics"]["challenger"][metric], float)
    assert {c["outcome"] for c in first["checks"]} <= {"PASS", "NOT_APPLICABLE"}
    assert set(first["seconds"]) >= {"snapshot", "validate", "train", "gate", "promote"}
    again = world.night(name, CUTOFF)[1]
    for key in ("run_key", "snapshot", "artifact_digest", "model_version", "champion", "checks", "outcome"):
        assert again[key] == first[key], key
    assert len(world.ratchet("history", name, "--home", str(world.home(name)))[1]["ledger"]) == 1


def test_model_has_the_same_bytes_when_nothing_is_remembered(world: World) -> None:
    """With its records and caches gone, a night trains the same bytes again."""
    land(world, "churn")
    first = world.night("churn", CUTOFF, "--dry-run")[1]
    for prefix in ("dry-runs/", "validations/", "snapshots/", "pins/"):
        for found in list(world.store.list(prefix)):
            world.store.client.delete_object(Bucket=world.store.bucket, Key=found.uri.split("/", 3)[3])
    fresh = {**world.environment, "RATCHET_CACHE": world.environment["RATCHET_CACHE"] + "-fresh"}
    again = replace(world, environment=fresh).night("churn", CUTOFF, "--dry-run")[1]
    assert again["run_key"] == first["run_key"]
    assert again["artifact_digest"] == first["artifact_digest"]


def test_registered_model_scores_raw_rows_as_the_night_did(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The MLflow pyfunc, given raw rows by a client that knows nothing but the server's address, gives what was evaluated for them."""
    monkeypatch.delenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", raising=False)
    land(world, "churn")
    night = world.night("churn", CUTOFF)[1]
    mlflow.set_tracking_uri(world.environment["MLFLOW_TRACKING_URI"])
    model = mlflow.pyfunc.load_model(f"models:/churn/{night['model_version']}")
    key = f"runs/churn/{night['run_key']}/predictions.parquet"
    evaluated = pq.read_table(pa.BufferReader(world.store.get(key))).to_pandas()
    day = evaluated["dt"].iloc[0]
    raw = pd.read_parquet(pa.BufferReader(world.store.get(f"churn/day={day}/" + _only(world, f"churn/day={day}/"))))
    scored = model.predict(raw.assign(dt=day))
    here = evaluated[evaluated["dt"] == day]
    assert here["challenger"].tolist() == scored[here["row_id"] % 2**32].tolist()


def _only(world: World, prefix: str) -> str:
    (found,) = world.store.list(prefix)
    return found.uri.rpartition("/")[2]


def test_dry_run_decides_everything_and_changes_nothing(world: World) -> None:
    """A dry run has checks and metrics, and leaves neither version nor ledger entry."""
    land(world, "churn")
    status, night, _ = world.night("churn", CUTOFF, "--dry-run")
    assert (status, night["dry_run"], night["model_version"], night["champion"]) == (0, True, None, None)
    assert night["checks"]
    assert world.ratchet("champion", "churn", "--home", str(world.home("churn")))[1]["version"] is None


def test_truncated_gzip_is_rejected_with_its_key(world: World) -> None:
    """A file that ends half-way rejects the night as corrupt, names the file, and leaves no model behind."""
    land(world, "energy")
    key = f"energy/{CUTOFF - DAY:%Y/%m/%d}/part-1.csv.gz"
    world.store.put(key, world.store.get(key)[:-200])
    status, night, errors = world.night("energy", CUTOFF)
    assert (status, night["outcome"], night["champion"]) == (3, "rejected", None)
    assert "corrupt" in night["reasons"][0]
    assert key in night["reasons"][0]
    assert "Traceback" not in errors


def test_corrected_file_is_taken_when_a_rejected_night_is_run_again(world: World) -> None:
    """Once the file is whole, the same night runs through."""
    land(world, "energy")
    key = f"energy/{CUTOFF - DAY:%Y/%m/%d}/part-0.csv.gz"
    whole = world.store.get(key)
    world.store.put(key, gzip.compress(b"meter;read_at\n"))
    assert world.night("energy", CUTOFF)[0] == 3
    world.store.put(key, whole)
    assert world.night("energy", CUTOFF)[1]["outcome"] == "promoted"


def test_decided_night_reads_its_pins_although_the_lake_has_changed(world: World) -> None:
    """An object overwritten after the night gives the same snapshot when the night is run again, and another with --repin."""
    land(world, "churn")
    first = world.night("churn", CUTOFF)[1]
    key = f"churn/day={CUTOFF}/" + _only(world, f"churn/day={CUTOFF}/")
    table = pq.read_table(pa.BufferReader(world.store.get(key)))
    out = pa.BufferOutputStream()
    pq.write_table(table.slice(0, table.num_rows - 5), out)
    world.store.put(key, out.getvalue().to_pybytes())
    assert world.night("churn", CUTOFF)[1]["snapshot"] == first["snapshot"]
    repinned = world.night("churn", CUTOFF, "--repin", "--dry-run")[1]
    assert repinned["snapshot"]["rows"] == first["snapshot"]["rows"] - 5
    assert repinned["run_key"] != first["run_key"]


def test_too_little_data_is_skipped_and_not_failed(world: World) -> None:
    """A night with too few partitions ends with status 0 and says how many there are."""
    land(world, "churn", first=CUTOFF - 3 * DAY)
    status, night, _ = world.night("churn", CUTOFF)
    assert (status, night["outcome"]) == (0, "skipped")
    assert "4 days of data" in night["reasons"][0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "training.params.max_dept"), "KEY=VALUE"),
        (("--set", "training.rouns=3"), "did you mean 'rounds'"),
        (("--set", "window.days=2"), "window"),
    ],
)
def test_wrong_command_is_refused_in_words(world: World, words: tuple[str, ...], says: str) -> None:
    """A wrong override ends with status 2 and says what would be right, before anything runs."""
    status, night, errors = world.night("churn", CUTOFF, *words)
    assert (status, night) == (2, {})
    assert says in errors
    assert "Traceback" not in errors


def test_unknown_pipeline_is_refused_with_the_choices(world: World) -> None:
    """A name that is no pipeline ends with status 2 and lists those that there are."""
    status, _, errors = world.ratchet("run", "chrun", "--cutoff", "2024-03-09", "--home", str(world.home("churn")))
    assert status == 2
    assert "there are: churn" in errors


def test_unreachable_services_are_named(world: World) -> None:
    """A server that does not answer ends with status 1 and its name, not with a traceback."""
    nowhere = replace(world, environment={**world.environment, "RATCHET_S3_ENDPOINT": "http://127.0.0.1:9"})
    status, night, errors = nowhere.night("churn", CUTOFF)
    assert status == 1
    assert night["outcome"] == "failed"
    assert "object store" in json.dumps(night["reasons"])
    assert "Traceback" not in errors
