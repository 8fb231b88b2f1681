"""Dask clusters of real processes, and rows to fit on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ratchet.domain.windows import windows
from ratchet.ports import TrainingPlan
from ratchet.tables import FeatureFrame, FeatureQuery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAYS = windows(date(2026, 3, 30), days=30, holdout_days=5, stop_days=5, label_delay_days=0)
QUERY = FeatureQuery(tables={}, sql="SELECT 1", hidden=(), target="1")


_DOOMED = """
import os, signal, threading, time


def dask_setup(worker):
    def doom():
        while not any(str(task.key).startswith("fn-") for task in list(worker.state.executing)):
            time.sleep(0.01)
        time.sleep(0.2)  # fn is what XGBoost calls a worker's part of a fit
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=doom, daemon=True).start()
"""


@dataclass
class Machines:
    """A scheduler and its workers, each a process."""

    folder: Path
    scheduler: subprocess.Popen[bytes]
    address: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def add(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread."""
        log = (self.folder / f"worker-{len(self.workers)}.log").open("wb")
        command = ["worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        given = {**self.environment, **environment}
        started = _dask(*command, "--local-directory", str(self.folder), *words, log=log, **given)
        self.workers.append(started)
        return started

    def add_doomed(self) -> subprocess.Popen[bytes]:
        """Start a worker that is killed in the middle of the first fit that it takes part in."""
        (self.folder / "doomed.py").write_text(_DOOMED)
        return self.add("--preload", str(self.folder / "doomed.py"))

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """Kill a worker, without a word to anybody."""
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    def have(self, number: int) -> None:
        """Start as many workers as are missing."""
        for _ in range(number - len(self.workers)):
            self.add()
        self.know(number)

    def know(self, number: int) -> None:
        """Wait until the scheduler knows so many workers."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            while len(client.scheduler_info(n_workers=-1)["workers"]) != number:
                time.sleep(0.1)

    def busy(self, number: int) -> None:
        """Wait until so many workers have a fit to do."""
        from distributed import Client

        def fitting(dask_scheduler=None):
            locks = dask_scheduler.extensions["multi_locks"].locks  # XGBoost locks the workers that it fits on
            return sum(bool(locks.get(w.address) and w.processing) for w in dask_scheduler.workers.values())

        with Client(self.address, set_as_default=False) as client:
            while client.run_on_scheduler(fitting) < number:
                time.sleep(0.1)


def _dask(*words, log, **environment):
    command = [sys.executable, "-m", "dask", *words]
    return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})


@contextmanager
def machines(folder: Path, workers: int, protocol: str = "tcp", **environment: str) -> Iterator[Machines]:
    """Start a cluster, and end every process of it."""
    told, log = folder / "scheduler.json", (folder / "scheduler.log").open("wb")
    words = ["--protocol", protocol, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    scheduler = _dask("scheduler", *words, "--scheduler-file", str(told), log=log, **environment)
    running = Machines(folder, scheduler, "", environment=environment)
    try:
        while not (told.exists() and told.read_text().endswith("}")):
            assert scheduler.poll() is None, (folder / "scheduler.log").read_text()
            time.sleep(0.1)
        running.address = json.loads(told.read_text())["address"]
        running.have(workers)
        yield running
    finally:
        for process in (*running.workers, scheduler):
            process.kill()
            process.wait()


def certificates(folder: Path, *roles: str) -> dict[str, str]:
    """Write a self-signed certificate, and return the variables by which Dask's roles are told of it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    named = {f"{tls}{role}__CERT": str(cert) for role in roles} | {f"{tls}{role}__KEY": str(private) for role in roles}
    return {f"{tls}CA_FILE": str(cert), **named}


def plan(task: str, **given) -> TrainingPlan:
    """Return a plan for a cluster."""
    named = {"rounds": 60, "early_stopping_rounds": 10, "seed": 7, "threads": 1, "device": "cpu", "engine": "dask"}
    return TrainingPlan(**{"task": task, "params": {"max_depth": 4, "eta": 0.2}, **named, **given})


def frame(task: str, rows: int = 12_000) -> FeatureFrame:
    """Return rows of 30 days in which two numbers and a text tell the target, with gaps."""
    rng = np.random.default_rng(11)
    x, y, place = rng.normal(size=rows), rng.normal(size=rows), rng.choice(["a", "b", "c"], rows)
    level = 1.5 * x + np.sin(3 * y) + np.where(place == "b", 1.0, 0.0) + rng.normal(size=rows)
    targets = {
        "binary": level > 1,
        "multiclass": np.digitize(level, [-0.5, 1.5]).astype(str),
        "regression": level,
        "quantile": level,
        "ranking": np.digitize(level, [0.0, 1.5, 3.0]).astype(float),
    }
    first, ids = DAYS.whole.first, np.arange(rows)
    columns = {
        "row_id": ids,
        "dt": pa.array([first + timedelta(days=int(i * 30 // rows)) for i in ids], pa.date32()),
        "target": targets[task],
        "x": pa.array(x, mask=rng.random(rows) < 0.1),
        "y": y,
        "place": place,
    }
    if task == "ranking":
        columns["ratchet.group"] = pa.array([f"{i // 20:06d}" for i in ids])
    return FeatureFrame(table=pa.table(columns), landed=rows, unlabelled=0, dropped=0, columns={})
