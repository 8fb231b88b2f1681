"""Registered models are tried in processes of their own, all forked from one that has seen none of them."""

from __future__ import annotations

import os
import time
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.adapters.smoke_server import Smoker
from ratchet.adapters.xgb import XgbTrainer
from ratchet.domain.windows import windows
from ratchet.ports import TrainingPlan
from ratchet.tables import FeatureFrame, FeatureQuery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAYS = windows(date(2024, 1, 10), days=10, holdout_days=2, stop_days=2, label_delay_days=0)


@pytest.fixture(scope="module")
def smoker() -> Iterator[Smoker]:
    """A server for all tests here."""
    made = Smoker()
    yield made
    made._end()


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A stored model with rows and the scores that are expected of them, and its digest."""
    folder, rng = tmp_path_factory.mktemp("model"), np.random.default_rng(1)
    day = np.repeat(np.arange("2024-01-01", "2024-01-11", dtype="datetime64[D]"), 50)
    x = rng.normal(size=500)
    table = pa.table({"row_id": np.arange(500), "dt": day, "target": x + rng.normal(size=500) > 0, "x": x})
    frame = FeatureFrame(table=table, landed=500, unlabelled=0, dropped=0, columns={})
    plan = TrainingPlan(task="binary", params={}, rounds=3, early_stopping_rounds=2, seed=0, threads=1, device="cpu")
    files = XgbTrainer().fit(frame, DAYS, plan, FeatureQuery(tables={}, sql="", hidden=(), target="y")).files
    for name, data in files.files.items():
        (folder / name).write_bytes(data)
    pq.write_table(table, folder / "rows.parquet")
    np.save(folder / "expected.npy", XgbTrainer().predict(files, table))
    return folder, files.digest


def ask(smoker: Smoker, tried: tuple[Path, str], expected: str = "expected.npy"):
    """Try the model."""
    folder, digest = tried
    return smoker(str(folder), digest, str(folder / "rows.parquet"), str(folder / expected))


def test_one_server_tries_many_models(smoker: Smoker, tried: tuple[Path, str]) -> None:
    """The second answer comes from the same server, and each says what scoring costs."""
    first = ask(smoker, tried)
    server = smoker._server
    second = ask(smoker, tried)
    assert first.problem is second.problem is None
    assert first.cost
    assert second.cost
    assert smoker._server is server


def test_a_model_that_crashes_its_process_takes_no_other(
    smoker: Smoker, tried: tuple[Path, str], tmp_path: Path
) -> None:
    """A booster that the parser dies of, or refuses, is a problem in words, and the next model is tried all the same."""
    from ratchet.domain.models import files_digest

    broken = {name: (tried[0] / name).read_bytes() for name in ("booster.ubj", "features.sql", "schema.json")}
    broken["booster.ubj"] = broken["booster.ubj"][:200] + b"\xff" * 200
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    found = smoker(str(tmp_path), files_digest(broken), str(tried[0] / "rows.parquet"))
    assert found.problem
    assert ask(smoker, tried).problem is None


def test_a_server_that_was_killed_is_started_again(smoker: Smoker, tried: tuple[Path, str]) -> None:
    """Whoever asks next gets an answer."""
    ask(smoker, tried)
    assert smoker._server
    smoker._server.kill()
    smoker._server.wait()
    assert ask(smoker, tried).problem is None


def test_the_server_ends_with_who_started_it(tried: tuple[Path, str]) -> None:
    """A process that is killed leaves no server behind."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        own = Smoker()
        ask(own, tried)
        assert own._server
        os.write(write, str(own._server.pid).encode())
        os.kill(os.getpid(), 9)
    os.close(write)
    pid = int(os.read(read, 100))
    os.waitpid(child, 0)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)


def test_another_digest_or_other_scores_are_told(smoker: Smoker, tried: tuple[Path, str], tmp_path: Path) -> None:
    """Nothing is parsed of a model of another digest; differing scores are counted."""
    folder, digest = tried
    found = smoker(str(folder), "0" * 64, str(folder / "rows.parquet"))
    assert found.problem == f"the artifact's sha256 is {digest}, evaluated was {'0' * 64}"
    other = np.load(folder / "expected.npy")
    other[0] += 1
    np.save(tmp_path / "other.npy", other)
    found = ask(smoker, tried, str(tmp_path / "other.npy"))
    assert found.problem == "1 of 500 predictions differ from those that were evaluated"
