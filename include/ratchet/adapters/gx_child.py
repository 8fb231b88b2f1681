"""A function in a forked process: it starts at once, with all that is imported, and can be killed."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def in_child(function: Callable[[], Any], seconds: float) -> Any:
    """Return what ``function`` returns, as JSON carries it.

    Raises:
        TimeoutError: it took longer than ``seconds``, and was killed.
        RuntimeError: it raised, or its process died.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(function, writer)
    os.close(writer)
    try:
        answer = _read(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not answer:
        raise RuntimeError("the process died without an answer")
    found = json.loads(answer)
    if "raised" in found:
        raise RuntimeError(found["raised"])
    return found["returned"]


def _answer(function: Callable[[], Any], writer: int) -> None:
    """Run in the child, and end it without the parent's clean-up."""
    try:
        try:
            answer = json.dumps({"returned": function()}, default=str)
        except BaseException as exc:  # noqa: BLE001  it must not climb into the parent's stack
            answer = json.dumps({"raised": f"{type(exc).__name__}: {exc}"[:1000]})
        with os.fdopen(writer, "w") as out:
            out.write(answer)
    finally:
        os._exit(0)


def _read(reader: int, deadline: float) -> bytes:
    chunks: list[bytes] = []
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
