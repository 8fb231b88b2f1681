"""Machines: processes of their own that work on one small pipeline over real servers, and die or wait at a chosen write."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import traceback
import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from fakes import PlainReporter, SmallValidator
from ratchet.adapters.duck import DuckEngine
from ratchet.adapters.ledger import ObjectLedger
from ratchet.adapters.mlflow import MlflowRegistry
from ratchet.adapters.s3 import S3Store
from ratchet.domain.night import Night, NightRequest
from ratchet.home import parse_spec
from ratchet.spec import Pipeline
from ratchet.steps.context import Services
from ratchet.steps.night import run_night
from unit.steps.small_world import SPEC, SQL, SUITE, QuickTrainer, partition

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

    from ratchet.stack import Embedded

FIRST = date(2024, 3, 1)
DAYS = 4
NIGHT = FIRST + timedelta(days=DAYS - 1)  # the first cutoff with a whole window
DAY = timedelta(days=1)
KILLED = "killed"

_PROCESSES = multiprocessing.get_context(
    "forkserver"
)  # imports once; a fork of pytest would take its threads' locks along
_PROCESSES.set_forkserver_preload(  # what is installed; where the tests lie the server does not know
    [
        "boto3",
        "duckdb",
        "mlflow.pyfunc",
        "mlflow.store.artifact.artifact_repository_registry",
        "pandas",
        "pyarrow.parquet",
        "ratchet.steps.night",
        "ratchet.wiring",
        "sklearn.metrics",
        "xgboost",
    ]
)


@dataclass(frozen=True)
class Place:
    """Where the machines of a test find servers, lake and records, and keep what they can make again."""

    endpoint: str
    tracking: str
    lake: str  # a bucket
    bucket: str  # the platform's own
    name: str  # of a pipeline that no other test has
    folder: Path

    @classmethod
    def fresh(cls, stack: Embedded, folder: Path, days: int) -> Place:
        """Return a place with a bucket of its own, in whose lake the first days have landed."""
        found = stack.environment
        lake = f"test-{uuid.uuid4().hex[:20]}"
        store = S3Store(found["RATCHET_S3_ENDPOINT"], lake, folder)
        for day in (FIRST + i * DAY for i in range(days)):
            store.put(f"rows/dt={day}/part.parquet", partition(day))
        name = lake.replace("-", "_")
        return cls(found["RATCHET_S3_ENDPOINT"], found["MLFLOW_TRACKING_URI"], lake, f"{lake}-own", name, folder)

    def services(self, cache: str = "cache") -> Services:
        """Return the services as one machine has them; each cache is a machine's own."""
        folder = self.folder / cache
        folder.mkdir(parents=True, exist_ok=True)
        store = S3Store(self.endpoint, self.bucket, folder)
        return Services(
            store=store,
            engine=DuckEngine(folder, threads=1),
            validator=SmallValidator(),
            trainer=QuickTrainer(),
            registry=MlflowRegistry(self.tracking, folder),
            ledger=ObjectLedger(store),
            reporter=PlainReporter(),
            cache=folder,
        )

    def pipeline(self, name: str, **overrides: Any) -> Pipeline:
        """Return a pipeline over the lake; pipelines of many names share it."""
        spec = yaml.safe_load(SPEC)
        spec["source"]["uri"] = f"s3://{self.lake}/rows/"
        spec |= {
            "name": name,
            "window": {"days": DAYS, "holdout_days": 2, "stop_days": 1, "min_partitions": 3, "min_rows": 30},
            "league": {"size": 1},
            "evaluation": {"baselines": ["average"]},  # who is promoted is not what these tests ask
            "gates": [
                {"kind": "bound", "metric": "auc", "at_least": 0.5, "min_rows": 1},
                {"kind": "champion", "loss": "log_loss", "margin": 50.0, "confidence": 0.6, "min_days": 2},
            ],
        }
        given = {key.replace("__", "."): value for key, value in overrides.items()}
        return Pipeline(spec=parse_spec(yaml.safe_dump(spec), "small.yaml", given), suite=SUITE, sql=SQL)


class Machine:
    """A process that does one piece of work.

    Args:
        place: where.
        work: a function of a module, called with the machine's ``Desk`` and ``facts``; what it returns is handed back.
        cache: name of the machine's cache.
        holds: part of the address of a write before which the process waits until it is told to go on.
        facts: keywords of the work.
    """

    def __init__(
        self, place: Place, work: Callable[..., Any], *, cache: str = "cache", holds: str | None = None, **facts: Any
    ) -> None:
        self._line, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=_start, args=(theirs, place, work, cache, holds, facts))
        self._process.start()
        theirs.close()

    def heard(self) -> str:
        """Wait until the work says something, and return it."""
        kind, said = self._receive()
        assert kind == "said", said
        return str(said)

    def go(self) -> None:
        """Let the work go on."""
        self._line.send("go")

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self._process.pid
        os.kill(self._process.pid, number)

    def result(self) -> Any:
        """Wait for the end of the work, and return what it has returned."""
        kind, said = self._receive()
        self._process.join()
        assert kind == "done", said
        return said

    def _receive(self) -> tuple[str, Any]:
        while not self._line.poll(1):
            assert self._process.is_alive() or self._line.poll(), "the machine has died and said nothing"
        kind, said = self._line.recv()
        return kind, said


class Desk:
    """What the work is given: services whose writes are watched, and a line to whoever waits for it.

    Args:
        line: to whoever waits.
        place: where.
        cache: name of the machine's cache.
        holds: see ``Machine``.
    """

    def __init__(self, line: Connection, place: Place, cache: str, holds: str | None = None) -> None:
        self.place = place
        self.services = place.services(cache)
        self.writes: list[str] = []
        self._line, self._holds = line, holds
        self._dies: int | None = None
        self._lock = threading.Lock()  # artifacts are sent by several threads
        self._watch()

    def wait(self, said: str) -> None:
        """Say something to who waits, and go on when told."""
        self._line.send(("said", said))
        self._line.recv()

    def fork(self, work: Callable[..., Any], *, dies: int | None = None, **facts: Any) -> Any:
        """Do a piece of work in a fork of this process, which has not talked to any server; ``KILLED`` where it was.

        Args:
            work: see ``Machine``.
            dies: number of the write before which the fork kills itself, from 1.
            facts: keywords of the work.
        """
        line, theirs = multiprocessing.Pipe()
        pid = os.fork()
        if pid == 0:
            self._line, self._dies = theirs, dies
            _report(self, work, facts)
            os._exit(0)  # the clean-up belongs to the process that was forked
        theirs.close()
        try:
            kind, said = line.recv()
        except EOFError:
            kind, said = "done", KILLED
        status = os.waitpid(pid, 0)[1]
        assert kind == "done", said
        assert status == (signal.SIGKILL if said == KILLED else 0)
        return said

    def tell(self, kind: str, said: Any) -> None:
        """Say how the work ended."""
        self._line.send((kind, said))

    def _watch(self) -> None:
        """Stand before each request that writes: of these a call of a port may take several."""
        import requests

        store: Any = self.services.store
        store.client.meta.events.register(
            "before-send.s3", lambda request, **_: self._meet(request.method, request.url)
        )
        send = requests.Session.send

        def watched(session: Any, request: Any, **how: Any) -> Any:
            self._meet(request.method, request.url)
            return send(session, request, **how)

        requests.Session.send = watched  # type: ignore[method-assign]

    def _meet(self, method: str, url: str) -> None:
        path = urlsplit(url).path
        if method in {"GET", "HEAD"} or path.endswith("/search"):
            return
        with self._lock:
            self.writes.append(f"{method} {path}")
            if len(self.writes) == self._dies:
                os.kill(os.getpid(), signal.SIGKILL)
        if self._holds and self._holds in path:
            self._holds = None
            self.wait(path)


def _start(
    line: Connection, place: Place, work: Callable[..., Any], cache: str, holds: str | None, facts: dict[str, Any]
) -> None:
    tempfile.tempdir = str(place.folder)  # what a killed process leaves goes with the test
    _report(Desk(line, place, cache, holds), work, facts)


def _report(desk: Desk, work: Callable[..., Any], facts: dict[str, Any]) -> None:
    try:
        kind, said = "done", work(desk, **facts)
    except BaseException as exc:  # noqa: BLE001  the test shows it
        kind, said = "failed", "".join(traceback.format_exception(exc))
    desk.tell(kind, said)


def one_night(desk: Desk, name: str, cutoff: date, actor: str = "tests") -> Night:
    """Run a whole night; what was not foreseen is raised."""
    request = NightRequest(pipeline=name, cutoff=cutoff, actor=actor)
    night, error = run_night(request, desk.place.pipeline(name), desk.services)
    if error:
        raise error
    return night
