"""Try registered models each in a process of its own, without importing XGBoost anew for each.

``python -m ratchet.adapters.smoke_server`` imports what scoring needs, and nothing else: it never sees a model. For every line on its standard input,
a JSON list of ``smoke.main``'s arguments, it forks; the fork tries that one model and ends. A file that crashes the parser takes the fork only.
It ends itself when its input does.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ratchet.ports import Tried

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMEOUT = 300.0  # seconds
_TOO_LATE = f"the registered artifact gave no predictions within {_TIMEOUT:.0f} s"


class Smoker:
    """Starts the server on first use, and asks it; a process that was forked from this one starts another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __call__(self, *arguments: str) -> Tried:
        """Return what ``smoke.main`` makes of its arguments in a fresh process."""
        with self._lock:
            server = self._running()
            assert server.stdin
            with suppress(BrokenPipeError):  # it has died; no answer says so
                server.stdin.write(json.dumps(arguments).encode() + b"\n")
                server.stdin.flush()
            answer = _line(server)
            if answer is None:
                self._end()
                return Tried(problem=_TOO_LATE)
            if not answer:
                status = server.wait()
                self._end()
                return Tried(problem=f"the process that tries models ended with status {status}")
        return Tried.model_validate_json(answer)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._server is None or self._pid != os.getpid() or self._server.poll() is not None:
            command = [sys.executable, "-m", "ratchet.adapters.smoke_server"]
            pipe = subprocess.PIPE
            self._server = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)  # noqa: S603  our own
            self._pid = os.getpid()
            atexit.register(self._end)
        return self._server

    def _end(self) -> None:
        server, self._server = self._server, None
        if server is None or self._pid != os.getpid():
            return
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # and what it has forked
        server.wait()
        for pipe in (server.stdin, server.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()


smoker = Smoker()


def _line(server: subprocess.Popen[bytes]) -> bytes | None:
    """Return the server's next line; None where it takes too long, and nothing where it has ended."""
    assert server.stdout
    found = b""
    with selectors.DefaultSelector() as ready:
        ready.register(server.stdout, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            if not ready.select(_TIMEOUT):
                return None
            part = os.read(server.stdout.fileno(), 65536)
            if not part:
                return b""
            found += part
    return found


def main() -> None:
    """Answer until the input ends."""
    # xgboost imports scikit-learn when it can, which would be most of the start; nothing here needs it.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    import pandas  # noqa: F401, ICN001  imported, not used: a fork finds them there
    import pyarrow.dataset  # noqa: F401, PLC0415
    import xgboost  # noqa: F401

    from ratchet.adapters import smoke  # noqa: PLC0415

    answers, sys.stdout = sys.stdout, sys.stderr  # what a library says is no answer
    for line in sys.stdin:
        answers.write(_forked(smoke.main, json.loads(line)) + "\n")
        answers.flush()


def _forked(work: Callable[..., Tried], arguments: list[str]) -> str:
    """Return the answer of a fork as JSON; one that ended without any says how it ended."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            tried = work(*arguments)
        except BaseException as exc:  # noqa: BLE001  whatever it is, it is the model's problem
            words = next((text for text in str(exc).splitlines() if text.strip()), "")
            tried = Tried(problem=f"{type(exc).__module__}.{type(exc).__qualname__}: {words}"[:500])
        os.write(write, tried.model_dump_json().encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if answer:
        return answer
    ended = os.waitstatus_to_exitcode(status)
    return Tried(problem=f"the process that loaded it ended with status {ended}").model_dump_json()


if __name__ == "__main__":
    main()
