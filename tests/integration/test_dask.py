"""Fits on a Dask cluster of two real workers: as good as here, and to an end whatever dies."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.config
import distributed  # noqa: F401  with its settings, before a test sets some of them for a while
import numpy as np
import pytest
import yaml
from sklearn.metrics import log_loss, mean_pinball_loss, mean_squared_error, ndcg_score

from integration.dask_clusters import DAYS, QUERY, Machines, certificates, frame, machines, plan
from ratchet.adapters.dask_xgb import EngineTrainer
from ratchet.errors import ServiceError, ServiceRefused, SettingsInvalid, SpecInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

QUANTILES = (0.1, 0.5, 0.9)
LONG = {"rounds": 200, "early_stopping_rounds": 200, "params": {"max_depth": 6, "eta": 0.03}}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two workers that no test kills."""
    with machines(tmp_path_factory.mktemp("dask"), 2) as running:
        yield running


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A cluster whose workers are killed."""
    with machines(tmp_path_factory.mktemp("mortal"), 0) as running:
        yield running


def trainer(cluster: Machines, patience: float = 60.0) -> EngineTrainer:
    """Return a trainer that fits there."""
    return EngineTrainer(cluster.address, patience)


def loss(task, made, given):
    """Return how far predictions of the hold-out are off."""
    rows = given.days(DAYS.holdout.first, DAYS.holdout.last)
    local = EngineTrainer()
    y, p = local.labels(made.files, rows), local.predict(made.files, rows)
    if task in {"binary", "multiclass"}:
        return log_loss(y, p)
    if task == "regression":
        return mean_squared_error(y, p)
    if task == "quantile":
        return np.mean([mean_pinball_loss(y, p[:, i], alpha=q) for i, q in enumerate(QUANTILES)])
    return 1 - ndcg_score(y.reshape(-1, 20), p.reshape(-1, 20))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", "quantile", "ranking"])
def test_a_model_of_two_workers_is_as_good_as_one_made_here(task, two):
    """Its loss on later days is within two per cent of the local engine's, and its files are of the same schema."""
    given, asked = frame(task), plan(task, quantiles=QUANTILES if task == "quantile" else ())
    there = trainer(two).fit(given, DAYS, asked, QUERY)
    here = EngineTrainer().fit(given, DAYS, asked.model_copy(update={"engine": "local"}), QUERY)
    assert loss(task, there, given) == pytest.approx(loss(task, here, given), rel=0.02)
    same = {"best_iteration": 0}
    assert there.files.schema_.model_copy(update=same) == here.files.schema_.model_copy(update=same)
    assert there.rows == here.rows
    assert sum(there.importance.values()) == pytest.approx(1)
    assert dict(there.made_on) == {
        "engine": "dask",
        "workers": "2",
        "threads": "1, 1",
        "parts": "4",
        "device": "cpu",
    }


def test_the_same_workers_give_the_same_bytes(two):
    """Fitted twice on the same two workers a model is the same, bit for bit."""
    given, asked = frame("binary"), plan("binary", rounds=10)
    once, again = (trainer(two).fit(given, DAYS, asked, QUERY) for _ in range(2))
    assert once.files.digest == again.files.digest


def test_one_connection_serves_many_fits(two):
    """Prepared rows are fitted to with other parameters, and a fit that is ended after some rounds has no more of them."""
    with trainer(two).prepare(frame("binary"), DAYS, plan("binary"), QUERY) as prepared:
        whole = trainer(two).boost(prepared, plan("binary"))
        short = trainer(two).boost(prepared, plan("binary", rounds=10), lambda round_, loss: round_ == 3)
    assert whole.files.schema_.best_iteration > 3
    assert len(short.curves["logloss"]) == 4
    assert short.files.schema_.best_iteration == 3


def test_a_refit_has_the_rounds_that_were_asked_for(two):
    """Nothing is watched: every row up to the last day is learnt from."""
    made = trainer(two).refit(frame("binary"), DAYS.whole, plan("binary"), QUERY, 7)
    assert made.rows == 12_000
    assert made.files.schema_.best_iteration == 6
    assert not made.curves


def test_parameters_are_refused_as_ever(two):
    """A misspelt one is named before anything is sent."""
    with pytest.raises(SpecInvalid, match="max_dept"):
        trainer(two).fit(frame("binary"), DAYS, plan("binary", params={"max_dept": 4}), QUERY)


def test_rows_are_weighed_as_here(two):
    """Weights by class and by age move predictions as far as they do here."""
    given, weighed = frame("binary"), {"class_weights": {"0": 1.0, "1": 6.0}, "half_life_days": 10.0}
    there, plain = (trainer(two).fit(given, DAYS, plan("binary", **how), QUERY) for how in (weighed, {}))
    here = EngineTrainer().fit(given, DAYS, plan("binary", engine="local", **weighed), QUERY)
    means = [EngineTrainer().predict(made.files, given.table).mean() for made in (there, plain, here)]
    assert means[0] > means[1] + 0.1
    assert means[0] == pytest.approx(means[2], abs=0.01)


def test_a_device_that_workers_lack_is_named(two):
    """XGBoost would go on on the CPU, and only warn."""
    with pytest.raises(ServiceError, match=r"XGBoost finds no cuda on worker tcp://\S+, only cpu"):
        trainer(two).fit(frame("binary"), DAYS, plan("binary", device="cuda"), QUERY)


def test_without_an_address_the_setting_is_named():
    """Who asks for the engine is told what it needs."""
    with pytest.raises(SettingsInvalid, match="RATCHET_DASK"):
        EngineTrainer().fit(frame("binary"), DAYS, plan("binary"), QUERY)


def test_where_nobody_answers_the_address_is_named():
    """An address at which there is no scheduler ends in an error that may pass."""
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9.*Start the scheduler") as failed:
        EngineTrainer("tcp://127.0.0.1:9", 2.0).fit(frame("binary"), DAYS, plan("binary"), QUERY)
    assert failed.value.retryable


def test_a_worker_killed_in_the_middle_costs_a_second_attempt(mortal):
    """The fit begins anew on the one that is left, and ends as well as ever; when nobody is left, in an error that may pass."""
    given, asked = frame("binary"), plan("binary", **LONG)
    mortal.have(1)
    doomed = mortal.add_doomed()
    mortal.know(2)
    there = trainer(mortal).fit(given, DAYS, asked, QUERY)
    assert there.made_on["workers"] == "1"
    assert doomed.wait() == -signal.SIGKILL
    here = EngineTrainer().fit(given, DAYS, asked.model_copy(update={"engine": "local"}), QUERY)
    assert loss("binary", there, given) == pytest.approx(loss("binary", here, given), rel=0.02)

    for worker in [*mortal.workers]:
        mortal.kill(worker)
    mortal.add_doomed()
    mortal.know(1)
    with pytest.raises(ServiceError, match="no worker has joined") as failed:
        trainer(mortal, 5.0).fit(given, DAYS, asked, QUERY)
    assert failed.value.retryable
    mortal.kill(mortal.workers[0])


def test_a_killed_night_leaves_no_worker_locked(mortal):
    """What a killed process was fitting is forgotten, and the next fit on its workers goes on."""
    program = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from integration.dask_clusters import *\n"
        "from ratchet.adapters.dask_xgb import EngineTrainer\n"
        "asked = plan('binary', rounds=10**6, early_stopping_rounds=10**6)\n"
        "EngineTrainer(sys.argv[1]).fit(frame('binary'), DAYS, asked, QUERY)\n"
    )
    mortal.have(2)
    night = subprocess.Popen([sys.executable, "-c", program, mortal.address, str(Path(__file__).parents[1])])
    mortal.busy(2)
    night.kill()
    night.wait()
    made = trainer(mortal).fit(frame("binary"), DAYS, plan("binary", rounds=5), QUERY)
    assert made.made_on["workers"] == "2"


def test_other_versions_are_named(mortal, tmp_path):
    """A worker that runs another XGBoost is not given anything to do."""
    (tmp_path / "xgboost-1.0.0.dist-info").mkdir()
    (tmp_path / "xgboost-1.0.0.dist-info" / "METADATA").write_text("Name: xgboost\nVersion: 1.0.0\n")
    other = mortal.add(PYTHONPATH=str(tmp_path))
    mortal.know(len(mortal.workers))
    with pytest.raises(ServiceRefused, match=r"worker tcp://\S+ runs xgboost 1\.0\.0 \(here"):
        trainer(mortal).fit(frame("binary"), DAYS, plan("binary"), QUERY)
    mortal.kill(other)
    mortal.know(len(mortal.workers))


def named(environment: dict[str, str]) -> dict[str, str]:
    """Return Dask's settings as its variables name them; in this process it has read those already."""
    return {
        name.removeprefix("DASK_").lower().replace("__", ".").replace("_", "-"): value
        for name, value in environment.items()
    }


def test_an_encrypted_cluster_takes_those_who_have_its_certificate(tmp_path):
    """A model is fitted over encrypted connections; without a certificate, or without its file, the variables are named."""
    client = certificates(tmp_path, "CLIENT")
    everybody = certificates(tmp_path, "CLIENT", "SCHEDULER", "WORKER")
    with dask.config.set(named(everybody)), machines(tmp_path, 2, "tls", **everybody) as cluster:
        assert cluster.address.startswith("tls://")
        made = trainer(cluster).fit(frame("binary"), DAYS, plan("binary", rounds=3), QUERY)
        assert made.made_on["workers"] == "2"
        with dask.config.set(named(dict.fromkeys(client, None))), pytest.raises(SettingsInvalid, match="CLIENT__CERT"):
            trainer(cluster).fit(frame("binary"), DAYS, plan("binary"), QUERY)
        (tmp_path / "key.pem").unlink()
        with pytest.raises(SettingsInvalid, match=r"can be read where .*CLIENT__KEY say .*No such file"):
            trainer(cluster).fit(frame("binary"), DAYS, plan("binary"), QUERY)


def test_the_composition_starts_a_cluster_that_fits(tmp_path):
    """The very commands of docker-compose.yaml's profile, run here as processes, are two workers to whom a fit is given."""
    services = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yaml").read_text())["services"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])

    def started(*words: str, **how: Any) -> subprocess.Popen[bytes]:
        here = [word.replace("dask-scheduler", "127.0.0.1").replace("8786", port) for word in words]
        at_hand = {"dask": [sys.executable, "-m", "dask"], "python": [sys.executable]}
        return subprocess.Popen([*at_hand[here[0]], *here[1:]], cwd=tmp_path, stderr=subprocess.DEVNULL, **how)

    processes = [started(*services["dask-scheduler"]["command"])]
    try:
        while started(*services["dask-scheduler"]["healthcheck"]["test"][1:]).wait():
            assert processes[0].poll() is None
        replicas = services["dask-worker"]["deploy"]["replicas"]
        processes += [started(*services["dask-worker"]["command"]) for _ in range(replicas)]
        cluster = Machines(tmp_path, processes[0], f"tcp://127.0.0.1:{port}")
        cluster.know(replicas)
        made = trainer(cluster).fit(frame("binary"), DAYS, plan("binary", rounds=3), QUERY)
        assert made.made_on["workers"] == "2"
    finally:
        for process in reversed(processes):  # workers first: each takes its child with it
            process.terminate()
            process.wait()
