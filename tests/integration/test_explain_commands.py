"""Why a row is predicted as it is, and a version's card, by the command line on real servers."""

from __future__ import annotations

import io
import json
from datetime import date
from typing import TYPE_CHECKING

import mlflow
import pyarrow.parquet as pq
import pytest

from samples.data import SAMPLES

if TYPE_CHECKING:
    from integration.conftest import World

CUTOFF = date(2024, 3, 9)


def test_a_version_is_explained_and_has_a_card(world: World, tmp_path) -> None:
    """One night of a sample: its model, its rows by number and by value, and its card in the store, in MLflow and as a file."""
    for key, data in SAMPLES["churn"](date(2024, 1, 20), CUTOFF):
        world.store.put(key, data)
    home = ("--home", str(world.home("churn")))
    status, night, _ = world.night("churn", CUTOFF)
    assert (status, night["outcome"]) == (0, "promoted")

    status, model, _ = world.ratchet("explain", "churn", *home)
    assert (status, model["version"]) == (0, 1)
    assert sum(f["share"] for f in model["features"]) == pytest.approx(1)

    kept = world.store.get(f"runs/churn/{night['run_key']}/predictions.parquet")
    row = pq.read_table(io.BytesIO(kept)).to_pylist()[0]
    status, found, _ = world.ratchet("explain", "churn", str(row["row_id"]), *home)
    assert (status, found["prediction"]) == (0, row["challenger"])
    assert found["base"] + sum(p["contribution"] for p in found["parts"]) == pytest.approx(found["margin"], abs=1e-4)
    status, _, error = world.ratchet("explain", "churn", "999999999999999", *home)
    assert status == 2
    assert "of its window" in error
    status, _, error = world.ratchet("explain", "churn", "--row", json.dumps({"dt": "2024-03-09"}), *home)
    assert status == 3
    assert "schema" in error

    page = tmp_path / "card.html"
    status, card, _ = world.ratchet("card", "churn", "--html", str(page), *home)
    assert (status, card["version"]) == (0, 1)
    assert "What it was never tried on".lower() in page.read_text().lower()
    client = mlflow.MlflowClient(world.environment["MLFLOW_TRACKING_URI"])
    run = client.get_run(client.get_model_version("churn", "1").run_id)
    assert {"card.html", "card.md", "explanation.json"} <= {f.path for f in client.list_artifacts(run.info.run_id)}
    assert run.data.tags["ratchet.card"] == "card.html"
    assert world.store.get(f"runs/churn/{night['run_key']}/card.html").startswith(b"<!doctype html>")
