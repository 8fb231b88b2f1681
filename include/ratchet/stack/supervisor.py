"""Starts the services, watches them, writes down what it sees, and stops them: ``python -m ratchet.stack.supervisor FOLDER``.

It restarts nothing by itself: a service that ended stays down, recorded with its exit status and last words, until
``ratchet up`` asks (SIGHUP) for what is missing. SIGTERM stops everything; so does the loss of the state folder, or the end
of the test that owns the stack.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ratchet.stack.catalogue import services
from ratchet.stack.folder import Folder, Plan, load, save, secrets_of
from ratchet.stack.process import ProcessRef, spawn, terminate
from ratchet.stack.record import WELL, Run, ServiceRun, State, boot_id, exit_words, tail

if TYPE_CHECKING:
    import subprocess

    from ratchet.stack.service import Service

_TICK = 0.1
_PROBE_STARTING, _PROBE_STEADY = 0.2, 5.0  # seconds between questions
_MISSED = 3  # unanswered questions in a row that make a well service unhealthy
_PATIENCE = 9.0  # seconds for a polite end


@dataclass
class _Slot:
    """A service and what is known of it."""

    service: Service
    log: Path
    state: State = "waiting"
    popen: subprocess.Popen[bytes] | None = None
    ref: ProcessRef | None = None
    since: float | None = None
    took: float | None = None
    code: int | None = None
    detail: str = ""
    last_words: tuple[str, ...] = ()
    missed: int = 0
    asked: float = 0.0
    answer: Future[str | None] | None = field(default=None, repr=False)

    def record(self) -> ServiceRun:
        return ServiceRun(
            name=self.service.name,
            state=self.state,
            process=self.ref,
            since=self.since,
            took=self.took,
            exit_code=self.code,
            detail=self.detail,
            tail=self.last_words,
            log=self.log,
            address=self.service.address,
        )


class Supervisor:
    """Runs the plan of one state folder."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._slots: dict[str, _Slot] = {}
        self._ref = ProcessRef.of(os.getpid())
        self._written: Run | None = None
        self._owner: ProcessRef | None = None
        self._sessions: list[ProcessRef] = []  # all that were ever started: a crashed one may have left children
        self._revision = 0
        self._reload = True
        self._stop = False
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="probe")

    def run(self) -> None:
        """Supervise until told to stop."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        while not self._stop:
            if self._reload:
                self._reload = False
                self._load()
            for slot in self._slots.values():
                self._watch(slot)
            self._write()
            self._stop = self._stop or self._abandoned()
            time.sleep(_TICK)
        self._end()

    def _on_stop(self, *_: object) -> None:
        self._stop = True

    def _on_reload(self, *_: object) -> None:
        self._reload = True

    def _load(self) -> None:
        """Read the plan: add services that are new, and let those that ended start again."""
        plan = load(self._folder.plan, Plan)
        if plan is None:
            self._stop = True
            return
        self._revision = plan.revision
        if plan.owner is not None and self._owner is None:
            self._owner = ProcessRef.of(plan.owner)
        for service in services(self._folder, plan, secrets_of(self._folder)):
            slot = self._slots.get(service.name)
            if slot is not None and slot.state == "unhealthy" and slot.ref is not None:  # it lives, but does not answer
                terminate([slot.ref], _PATIENCE)
            if slot is None or slot.state in {"crashed", "unhealthy"} or service.once:
                self._slots[service.name] = _Slot(service, service.log(self._folder.logs))

    def _abandoned(self) -> bool:
        if not self._folder.plan.exists():
            sys.stderr.write("the state folder is gone: stopping\n")
            return True
        return self._owner is not None and not self._owner.alive()

    def _watch(self, slot: _Slot) -> None:
        if slot.state == "waiting":
            self._start_when_ready(slot)
        elif slot.state in {"starting", "healthy", "unhealthy"}:
            code = slot.popen.poll() if slot.popen else None
            if code is not None:
                self._ended(slot, code)
            elif slot.service.probe is not None:
                self._probe(slot)

    def _start_when_ready(self, slot: _Slot) -> None:
        needs = [self._slots[name] for name in slot.service.needs]
        failed = [n.service.name for n in needs if n.state == "crashed"]
        slot.detail = f"waits for {', '.join(failed)}, which failed" if failed else ""
        if any(n.state not in WELL for n in needs):
            return
        if slot.service.mark is not None and _read(slot.service.mark) == slot.service.mark_text:
            slot.state, slot.detail = "done", "was done before"
            return
        slot.since = time.time()
        try:
            slot.popen = spawn(slot.service.command, slot.service.environment, self._folder.root, slot.log)
        except OSError as exc:
            slot.state, slot.detail = "crashed", f"could not be started: {exc}"
            return
        slot.ref = ProcessRef.of(slot.popen.pid, slot.service.stop)
        slot.state = "starting"
        self._sessions.append(slot.ref)

    def _ended(self, slot: _Slot, code: int) -> None:
        slot.code = code
        if slot.service.once and code == 0:
            if slot.service.mark is not None:
                slot.service.mark.write_text(slot.service.mark_text)
            slot.state, slot.detail, slot.took = "done", "", round(time.time() - (slot.since or 0), 2)
            return
        slot.state, slot.detail, slot.last_words = "crashed", exit_words(code), tail(slot.log)
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {slot.service.name} {slot.detail}\n")
        if slot.ref is not None:  # its orphans would hold the port or the database
            terminate([slot.ref], 1.0)

    def _probe(self, slot: _Slot) -> None:
        now = time.monotonic()
        if slot.answer is None:
            pause = _PROBE_STEADY if slot.state == "healthy" else _PROBE_STARTING
            if slot.service.probe is not None and now - slot.asked >= pause:
                slot.asked = now
                slot.answer = self._pool.submit(slot.service.probe, slot.since or 0.0)
        elif slot.answer.done():
            answer, slot.answer = slot.answer, None
            wrong = answer.result() if answer.exception() is None else str(answer.exception())
            self._judge(slot, wrong)

    def _judge(self, slot: _Slot, wrong: str | None) -> None:
        age = time.time() - (slot.since or 0)
        if wrong is None:
            slot.state, slot.detail, slot.missed = "healthy", "", 0
            slot.took = slot.took if slot.took is not None else round(age, 2)
            return
        slot.missed += 1
        impatient = slot.state == "starting" and age > slot.service.patience
        if impatient or (slot.state == "healthy" and slot.missed >= _MISSED):
            slot.state = "unhealthy"
        if slot.state != "healthy":
            slot.detail = wrong

    def _write(self, *, stopping: bool = False) -> None:
        run = Run(
            boot=boot_id(),
            supervisor=self._ref,
            services=tuple(s.record() for s in self._slots.values()),
            stopping=stopping,
            revision=self._revision,
        )
        if run != self._written and self._folder.root.exists():
            save(self._folder.run, run)
            self._written = run

    def _end(self) -> None:
        """Stop everything: first those that write, then those that are written to."""
        with contextlib.suppress(OSError):
            self._write(stopping=True)
        last = [s.ref for s in self._slots.values() if s.service.last and s.ref]
        terminate([ref for ref in self._sessions if ref not in last], _PATIENCE)
        terminate(last, 2.0)
        for slot in self._slots.values():
            if slot.popen is not None:
                slot.code = slot.popen.poll()
            slot.state, slot.detail = "stopped", ""
        with contextlib.suppress(OSError):
            self._write()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def main() -> None:
    """Supervise the folder named on the command line."""
    with contextlib.suppress(psutil.Error, OSError):
        os.chdir(sys.argv[1])
    Supervisor(Folder(Path(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
