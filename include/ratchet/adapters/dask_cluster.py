"""A Dask cluster as a fit sees it: who works there, whether they run what runs here, and whether they are still there.

A connection lives in a thread of its own, because Dask is asynchronous and a night is not. Nothing waits without an end: for a scheduler,
for workers and for their answers there are time limits, and a worker that goes away is noticed while the fit runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from ratchet.errors import ServiceError, ServiceRefused, SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterator, Mapping, Sequence

_LIBRARIES = ("python", "xgboost", "dask", "distributed", "numpy")
_LOOK = 1.0  # seconds between two looks at who is there
_GRACE = 5.0  # seconds after which what has happened is known to the scheduler
_SILENCE = 5  # times the patience, until a scheduler that is connected is taken for dead
_HELD = 4 * 3600.0  # seconds that another fit may hold the workers

T = TypeVar("T")


class WorkersLost(Exception):
    """Workers that took part in a fit are gone; it never leaves the adapters."""

    def __init__(self, gone: Sequence[str]) -> None:
        self.gone = tuple(sorted(gone))
        super().__init__(", ".join(self.gone))


class Cluster:
    """A connection to a Dask scheduler.

    Args:
        address: the scheduler's, such as ``tcp://10.0.0.5:8786``.
        patience: seconds for a connection, and for the first worker to join; for answers five times as many, because a scheduler says
            nothing while it imports what its first fit needs.
    """

    def __init__(self, address: str, patience: float = 60.0) -> None:
        self.address, self._patience = address, patience
        self.client: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dask", daemon=True)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Cluster]:
        """Connect, and disconnect in the end: the scheduler then forgets what it was given.

        Raises:
            ServiceError: nobody answers there. SettingsInvalid: the connection is to be encrypted, and no certificates are given.
        """
        self._thread.start()
        try:
            self.do(self._connect())
            yield self
        finally:
            if self.client is not None:
                with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                    self.do(self._disconnect())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the connection's thread, and wait for it."""
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return doing.result()
        except BaseException:  # whoever waits is told to stop: so is the work
            doing.cancel()
            raise

    async def _connect(self) -> None:
        try:
            self.client = await asyncio.wait_for(_client(self.address, self._patience), 2 * self._patience)
        except (OSError, TimeoutError) as exc:
            raise self.failure("connecting", f"{_words(exc)}. Start the scheduler, or correct RATCHET_DASK") from exc

    async def _disconnect(self) -> None:
        await asyncio.wait_for(self.client.close(timeout=_GRACE), 2 * _GRACE)

    def failure(self, doing: str, cause: object) -> ServiceError:
        """Return the error of something that may go well another time."""
        return ServiceError(f"the Dask cluster at {self.address}", doing, cause)

    async def workers(self) -> dict[str, int]:
        """Return the threads of each worker, in order of their addresses; wait for the first to join.

        Raises:
            ServiceError: nobody has joined. ServiceRefused: somebody runs other versions than are installed here.
        """
        for _ in range(math.ceil(self._patience / _LOOK)):
            if found := await self._present():
                await self._compare_versions()
                return {address: found[address] for address in sorted(found)}
            await asyncio.sleep(_LOOK)
        raise self.failure(
            "fitting", f"no worker has joined the scheduler within {self._patience:.0f} s. Start workers"
        )

    async def _present(self) -> dict[str, int]:
        return {address: worker["nthreads"] for address, worker in (await self._known()).items()}

    async def _known(self) -> Mapping[str, Mapping[str, Any]]:
        known: Mapping[str, Mapping[str, Any]] = (await self._asked(self.client.scheduler.identity()))["workers"]
        return known

    async def _asked(self, answer: Awaitable[T]) -> T:
        try:
            # wait_for may swallow that it is cancelled (Python 3.11)
            async with asyncio.timeout(_SILENCE * self._patience):
                return await answer
        except (OSError, TimeoutError) as exc:
            raise self.failure("asking the scheduler", _words(exc)) from exc

    async def _compare_versions(self) -> None:
        found = await self._asked(self.client.get_versions(packages=["xgboost"]))
        here = _versions(found["client"])
        there = {"the scheduler": found["scheduler"], **{f"worker {a}": v for a, v in found["workers"].items()}}
        for who, versions in there.items():
            other = [
                f"{k} {v or 'not at all'} (here {here[k]})" for k, v in _versions(versions).items() if v != here[k]
            ]
            if other:
                words = f"{who} runs {', '.join(other)}. Install the versions of requirements.txt there"
                raise ServiceRefused(f"the Dask cluster at {self.address}", "fitting", words)

    async def guarded(self, workers: Sequence[str], work: Coroutine[Any, Any, T]) -> T:
        """Do something that all these workers take part in.

        Raises:
            WorkersLost: some went away meanwhile. ServiceError: the scheduler did, or the work failed although all are there.
        """
        working, watching = asyncio.ensure_future(work), asyncio.ensure_future(self._until_lost(workers))
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                watching.result()  # raises
            return working.result()
        except (WorkersLost, ServiceError):
            raise
        except (Exception, asyncio.CancelledError) as exc:
            if not working.done() or working.cancelled():
                raise
            await self._until_lost(workers, _GRACE)  # a death is known to its peers before the scheduler knows it
            raise self.failure("fitting", _words(exc)) from exc
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.wait({working, watching}, timeout=self._patience)  # locks are given back

    async def _until_lost(self, workers: Sequence[str], seconds: float = math.inf) -> None:
        """Look who is there, until somebody is not.

        Raises:
            WorkersLost: somebody is not.
            ServiceError: somebody is, but has been doing nothing for too long, because memory is short there.
        """
        paused, passed = 0.0, 0.0
        while passed < seconds:
            known = await self._known()
            if gone := set(workers) - set(known):
                raise WorkersLost(sorted(gone))
            full = sorted(address for address in workers if known[address]["status"] == "paused")
            paused = paused + _LOOK if full else 0.0
            if paused > self._patience:
                words = f"the memory of {', '.join(full)} is full, so Dask has paused it. Give it more, or start more workers"
                raise self.failure("fitting", words)
            await asyncio.sleep(_LOOK)
            passed += _LOOK

    async def unlock(self, workers: Sequence[str]) -> None:
        """Wait until no other fit holds the workers, and take back what nobody holds any more.

        ``xgboost.dask`` locks workers for a fit, and the scheduler keeps a lock although whoever held it was killed. Whoever does holds
        workers that do nothing.

        Raises:
            ServiceError: somebody has held them for too long.
        """
        names = tuple(workers)

        def look(dask_scheduler: Any = None, *, take: bool = False) -> tuple[list[str], bool]:
            """Nested, so that it travels by value: Ratchet need not be installed there."""
            locks = dask_scheduler.extensions["multi_locks"]
            holders = sorted({str(locks.locks[name][0]) for name in names if locks.locks.get(name)})
            idle = not any(w.processing for w in dask_scheduler.workers.values() if w.address in names)
            for holder in holders if take and idle else ():
                locks.release(id=holder)
            return holders, idle

        async def seen(*, take: bool = False) -> tuple[list[str], bool]:
            return await self._asked(self.client.run_on_scheduler(look, take=take))

        before, waited, idled = [""], 0.0, 0.0
        while (found := await seen(take=idled > _GRACE))[0]:
            holders, idle = found
            waited = waited + _LOOK if holders == before else 0.0
            idled = idled + _LOOK if idle and holders == before else 0.0
            if waited > _HELD:
                words = f"another fit has held its workers for {_HELD / 3600:.0f} hours. Look what it is"
                raise self.failure("fitting", words)
            before = holders
            await asyncio.sleep(_LOOK)


_TRACKER = """
import json, os, sys, threading, time
from xgboost.tracker import RabitTracker

workers, addresses, seconds = json.loads(sys.argv[1])
for i, address in enumerate(addresses):
    try:
        tracker = RabitTracker(n_workers=workers, host_ip=address, sortby="task", timeout=seconds)
        tracker.start()
        break
    except Exception:
        if i + 1 == len(addresses):
            raise
print(json.dumps(tracker.worker_args()), flush=True)
waiting = threading.Thread(target=tracker.wait_for, daemon=True)
waiting.start()
parent = os.getppid()
while waiting.is_alive() and os.getppid() == parent:  # it does not outlive the scheduler
    time.sleep(0.2)
os._exit(0)
"""


async def _client(address: str, patience: float) -> Any:
    """Connect to a scheduler, for XGBoost too.

    XGBoost would have its tracker run in the scheduler's process, and a tracker ends its process (``std::terminate``) when a worker dies
    at a bad moment: of one worker's death the whole cluster would die. So it gets a process of its own on the scheduler's machine.
    """
    from distributed import Client

    class Connection(Client):  # type: ignore[misc]  # Dask is untyped
        def run_on_scheduler(self, function: Any, *given: Any, **named: Any) -> Any:
            if function.__module__ != "xgboost.dask":
                return super().run_on_scheduler(function, *given, **named)
            workers, there, _, seconds = given
            me, program, asked = self.id, _TRACKER, json.dumps([workers, [None, there], seconds or 0])

            async def start(dask_scheduler: Any = None) -> Any:  # nested, so that it travels by value
                # Popen, because asyncio kills a process of which it is given no handle any more
                started = subprocess.Popen([sys.executable, "-c", program, asked], stdout=subprocess.PIPE)  # noqa: ASYNC220, S603  our own words, started at once
                mine = vars(dask_scheduler).setdefault("ratchet_trackers", {})
                for over in [client for client in mine if client == me or client not in dask_scheduler.clients]:
                    mine.pop(over).kill()  # of a fit that has ended, and not well
                mine[me] = started
                assert started.stdout
                told = await asyncio.to_thread(started.stdout.readline)
                if not told:
                    raise RuntimeError(f"XGBoost's tracker ended with status {started.wait()}: see the scheduler's log")
                return json.loads(told)

            return super().run_on_scheduler(start)

    return await Connection(address, asynchronous=True, timeout=patience, security=_security(address))


def _security(address: str) -> Any:
    """Return by which certificates a connection is encrypted, as Dask's own settings say; None for one that is not.

    Raises:
        SettingsInvalid: none are given, or they cannot be read.
    """
    from distributed.security import Security

    if not address.startswith("tls:"):
        return None
    given, tls = Security(), "DASK_DISTRIBUTED__COMM__TLS__"
    files = {f"{tls}CA_FILE": given.tls_ca_file, f"{tls}CLIENT__CERT": given.tls_client_cert}
    if missing := [name for name, file in files.items() if not file]:
        expected = f"a tcp address, or the names of the certificates' files in {' and '.join(missing)}"
        raise SettingsInvalid("RATCHET_DASK", address, expected)
    try:
        given.get_connection_args("client")
    except OSError as exc:
        expected = f"certificates that can be read where {', '.join(files)} and {tls}CLIENT__KEY say ({exc})"
        raise SettingsInvalid("RATCHET_DASK", address, expected) from exc
    return given


def attending(device: str) -> Any:
    """Return the callback by which workers end a fit that nobody waits for any more, and refuse a device that they lack.

    A thread cannot be ended from outside; and XGBoost would go on on the CPU. The class is nested, so that it travels by value: Ratchet need
    not be installed there.
    """
    import distributed
    import xgboost as xgb

    class Attending(xgb.callback.TrainingCallback):  # type: ignore[misc]  # XGBoost is untyped
        def before_training(self, model: Any) -> Any:
            found = json.loads(model.save_config())["learner"]["generic_param"]["device"]
            if found.split(":")[0] != device.split(":", maxsplit=1)[0]:
                where = distributed.get_worker().address
                raise RuntimeError(f"XGBoost finds no {device} on worker {where}, only {found}")
            return model

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            worker = distributed.get_worker()
            task = worker.state.tasks.get(worker.get_current_task())
            here = worker.status.name in {"running", "paused"}
            return not here or task is None or task.state == "cancelled"

    return Attending()


def _versions(told: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what matters of the versions that Dask tells; of Python's, what decides whether code can travel."""
    found = {name: told["packages"].get(name) for name in _LIBRARIES}
    return {**found, "python": ".".join(str(found["python"]).split(".")[:2])}


def _words(exc: BaseException) -> str:
    return next((line for line in str(exc).splitlines() if line.strip()), type(exc).__name__)[:300]
