"""Processes: told apart although pids are reused, and stopped with everything that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil

from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_CLOCK_SLACK = 2.0  # seconds: the start time is counted from a boot time that the kernel may correct


class ProcessRef(Record):
    """A process that we started. A pid alone would be reused; pid and start time together are not."""

    pid: int
    started: float  # seconds since the epoch, as the kernel tells it
    stop: int = signal.SIGTERM  # the signal that ends it politely

    @classmethod
    def of(cls, pid: int, stop: int = signal.SIGTERM) -> ProcessRef:
        """Describe a running process."""
        try:
            return cls(pid=pid, started=psutil.Process(pid).create_time(), stop=stop)
        except psutil.NoSuchProcess:  # it ended already; its exit status will tell
            return cls(pid=pid, started=time.time(), stop=stop)

    def alive(self) -> bool:
        """Tell whether this very process runs (a zombie does not)."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _CLOCK_SLACK
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def spawn(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that it can be stopped with all its children; output goes to ``log``."""
    with log.open("ab") as out:
        return subprocess.Popen(  # noqa: S603  the command is ours
            list(command),
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def members(leaders: Iterable[ProcessRef]) -> list[psutil.Process]:
    """Return the living processes of the sessions that these leaders opened, and the leaders' descendants.

    A session keeps its number reserved as long as any member lives, so members that a dead leader left behind are
    found too; one that started before its leader belongs to somebody else who got the number later or earlier.
    """
    started = {ref.pid: ref for ref in leaders}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            leader = started.get(os.getsid(process.pid))
            if leader is None or process.status() == psutil.STATUS_ZOMBIE:
                continue
            reused = psutil.pid_exists(leader.pid) and not _same(leader)
            if not reused and process.create_time() >= leader.started - _CLOCK_SLACK:
                found[process.pid] = process
        except (psutil.Error, OSError):  # it ended while we looked
            continue
    for process in list(found.values()):  # some descendants open sessions of their own
        with contextlib.suppress(psutil.Error):
            found.update({child.pid: child for child in process.children(recursive=True)})
    return list(found.values())


def _same(ref: ProcessRef) -> bool:
    """Tell whether the pid still belongs to this process, be it a zombie."""
    try:
        return abs(psutil.Process(ref.pid).create_time() - ref.started) < _CLOCK_SLACK
    except psutil.Error:
        return False


def terminate(leaders: Iterable[ProcessRef], patience: float) -> int:
    """End the sessions of these processes: politely, then after ``patience`` seconds with SIGKILL.

    The leaders are asked first and alone, because most of them end their children better than we could.

    Returns:
        how many processes had to be killed.
    """
    refs = list(leaders)
    ours = members(refs)
    orphans = [p for p in ours if p.pid not in {r.pid for r in refs}]
    deadline = time.monotonic() + patience
    for until in (deadline - patience * 2 / 3, deadline):  # Airflow's triggerer hurries only when it is asked twice
        _ask(refs)
        while time.monotonic() < until and any(ref.alive() for ref in refs):
            time.sleep(0.05)
    for process in orphans:  # what the leaders left behind
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _wait(orphans, min(1.0, patience))
    return _kill([*ours, *members(refs)])


def _ask(refs: Iterable[ProcessRef]) -> None:
    for ref in refs:
        if ref.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(ref.pid, ref.stop)


def _kill(processes: Iterable[psutil.Process]) -> int:
    killed = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
                killed.add(process.pid)
    return len(killed)


def _wait(processes: Sequence[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(_running(p) for p in processes):
            return
        time.sleep(0.05)


def _running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
