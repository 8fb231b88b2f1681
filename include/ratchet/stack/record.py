"""What the supervisor sees and writes down: the state of each service."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import psutil

from ratchet.domain.records import Record
from ratchet.stack.process import ProcessRef

State = Literal["waiting", "starting", "healthy", "unhealthy", "done", "crashed", "stopped"]

WELL: frozenset[State] = frozenset({"healthy", "done"})


class ServiceRun(Record):
    """One service as last seen."""

    name: str
    state: State = "waiting"
    process: ProcessRef | None = None
    since: float | None = None  # when it was started, seconds since the epoch
    took: float | None = None  # seconds until it was well
    exit_code: int | None = None
    detail: str = ""
    tail: tuple[str, ...] = ()  # of the log, where it failed
    log: Path
    address: str | None = None


class Run(Record):
    """The whole stack as last seen."""

    boot: str
    supervisor: ProcessRef
    services: tuple[ServiceRun, ...] = ()
    stopping: bool = False
    revision: int = 0  # of the plan that it follows

    def named(self, name: str) -> ServiceRun | None:
        """Return the service of that name."""
        return next((s for s in self.services if s.name == name), None)


def boot_id() -> str:
    """Name this boot of the machine: pids of another one mean nothing."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return str(round(psutil.boot_time() / 60))


def tail(log: Path, lines: int = 12, width: int = 300) -> tuple[str, ...]:
    """Return the last lines of a log, each cut to ``width``."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - 64 * 1024))
            text = handle.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(line[:width] for line in text.splitlines()[-lines:])


def exit_words(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with status {code}"
    import signal  # noqa: PLC0415

    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
