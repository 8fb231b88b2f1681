"""Snapshots from the command line, on real servers: shown, compared, fetched, verified past the cache; and nights that wait."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from ratchet.adapters.mlflow import MlflowRegistry
from samples.data import SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import World

CUTOFF = date(2024, 3, 9)
DAY = timedelta(days=1)
FIRST = CUTOFF - 34 * DAY


def key(day: date, file: str = "subscribers.parquet") -> str:
    """Return the key of something in a day's folder."""
    return f"churn/day={day}/{file}"


def land(world: World, last: date = CUTOFF) -> None:
    """Land the churn sample up to a day."""
    for name, data in SAMPLES["churn"](FIRST, last):
        world.store.put(name, data)


def asked(world: World, *words: str):
    """Run a command about the churn sample's snapshots."""
    return world.ratchet("snapshot", words[0], "churn", "--home", str(world.home("churn")), *words[1:])


def test_what_a_night_has_read_can_be_had_again(world: World, tmp_path: Path) -> None:
    """After a second night with a correction the first one's bytes are shown, compared, fetched and verified by their versions."""
    land(world)
    first = world.night("churn", CUTOFF)[1]
    early = FIRST + 20 * DAY
    world.store.put(key(early), next(SAMPLES["churn"](early + 400 * DAY, early + 400 * DAY))[1])
    land_next = dict(SAMPLES["churn"](CUTOFF + DAY, CUTOFF + DAY))
    for name, data in land_next.items():
        world.store.put(name, data)
    second = world.night("churn", CUTOFF + DAY)[1]
    assert second["snapshot"]["digest"] != first["snapshot"]["digest"]

    status, shown, _ = asked(world, "show", "--cutoff", str(CUTOFF))
    assert (status, shown["digest"]) == (0, first["snapshot"]["digest"])
    pins = {pin["uri"].split("/", 3)[3]: pin for pin in shown["tables"]["rows"]}
    assert len(pins) == 35
    assert all(pin["version"] and pin["modified"] for pin in pins.values())

    status, changed, _ = asked(world, "diff")
    assert (changed["added"], changed["corrected"]) == ([key(CUTOFF + DAY)], [key(early)])
    assert changed["late"] == {key(early): (CUTOFF + DAY - early).days}

    folder = tmp_path / "fetched"
    status, fetched, _ = asked(world, "fetch", first["snapshot"]["digest"][:10], "--to", str(folder))
    assert status == 0
    for file in fetched["files"]:
        data = (folder / file["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"] == pins[file["uri"].split("/", 3)[3]]["sha256"]
    assert json.loads((folder / "snapshot.json").read_text())["snapshot"] == first["snapshot"]["digest"]

    assert asked(world, "verify", "--cutoff", str(CUTOFF))[:2][0] == 0
    client, lost = world.store.client, pins[key(early)]
    client.delete_object(Bucket=world.store.bucket, Key=key(early), VersionId=lost["version"])
    status, verified, _ = asked(world, "verify", "--cutoff", str(CUTOFF))
    assert (status, verified["holds"]) == (3, False)
    assert [(b["uri"], b["version"]) for b in verified["broken"]] == [(lost["uri"], lost["version"])]
    assert asked(world, "verify")[0] == 0
    assert not list(world.store.cache.glob(".verify-*"))


def test_mlflow_says_what_a_run_has_learnt_from(world: World, tmp_path: Path) -> None:
    """The run of a night has the server's own dataset record, with the snapshot's digest in full."""
    land(world)
    night = world.night("churn", CUTOFF)[1]
    registry = MlflowRegistry(world.environment["MLFLOW_TRACKING_URI"], tmp_path)
    version = registry.versions("churn")[0]
    [used] = registry.client.get_run(version.mlflow_run_id).inputs.dataset_inputs
    tags = {tag.key: tag.value for tag in used.tags}
    assert tags["ratchet.snapshot"] == night["snapshot"]["digest"]
    assert used.dataset.digest == night["snapshot"]["digest"][:36]
    assert tags["ratchet.source"] == f"s3://{world.store.bucket}/churn/"
    assert json.loads(used.dataset.profile)["num_rows"] == night["snapshot"]["rows"] == 35 * 300
    names = {column["name"] for column in json.loads(used.dataset.schema)["mlflow_colspec"]}
    assert {"subscriber id", "Plan Name", "months"} <= names


def rule(world: World, text: str) -> None:
    """Let the churn sample say when a partition is complete."""
    spec = world.home("churn") / "pipelines" / "churn.yaml"
    spec.write_text(spec.read_text().replace("  format: parquet\n", f"  format: parquet\n  completion: {text}\n"))


def manifest(world: World, day: date, **changed: object) -> None:
    """Write a day's manifest as the store has it, but for what is changed."""
    data = world.store.get(key(day))
    sha256 = hashlib.sha256(data).hexdigest()
    file = {"name": "subscribers.parquet", "size": len(data), "sha256": sha256, **changed}
    world.store.put(key(day, "_manifest.json"), json.dumps({"files": [file]}).encode())


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("{by: marker}", "incomplete", "has no marker _SUCCESS; last written 20"),
        ("{by: quiet, minutes: 600}", "incomplete", "is still being written"),
        ("{by: manifest}", "missing_object", "expected 17"),
    ],
)
def test_a_partition_that_is_not_complete_rejects_the_night(world: World, text: str, reason: str, words: str) -> None:
    """With exit status 3, in words that name it, and with no champion; for each of the rules, on a real server."""
    land(world)
    rule(world, text)
    for i in range(35):
        manifest(world, FIRST + i * DAY, **({"size": 17} if i == 34 else {}))
        if i < 34:
            world.store.put(key(FIRST + i * DAY, "_SUCCESS"), b"")
    status, night, _ = world.night("churn", CUTOFF)
    assert (status, night["outcome"], night["champion"]) == (3, "rejected", None)
    assert night["reasons"][0].startswith(f"{reason}: ")
    assert words in night["reasons"][0]
    assert f"day={CUTOFF}/" in night["reasons"][0]


def test_a_night_that_waits_goes_on_with_the_marker(world: World) -> None:
    """`--wait` holds the night back until its newest day is complete."""
    land(world)
    rule(world, "{by: marker, wait_hours: 0.1}")
    for i in range(34):
        world.store.put(key(FIRST + i * DAY, "_SUCCESS"), b"")
    late = threading.Timer(5, lambda: world.store.put(key(CUTOFF, "_SUCCESS"), b""))
    late.start()
    status, night, _ = world.night("churn", CUTOFF, "--wait")
    assert (status, night["outcome"]) == (0, "promoted")
