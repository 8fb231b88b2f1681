"""What a library warns of, told apart by thread: Python catches warnings for a whole process, and fits may run at once."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Ears:
    """Listens while any thread does, and gives each thread its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[int, list[warnings.WarningMessage]] = {}
        self._caught: Any = None
        self._others: Any = None  # who shows what no thread that listens has caused

    def begin(self) -> list[warnings.WarningMessage]:
        with self._lock:
            if not self._heard:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                self._others = warnings.showwarning
                warnings.simplefilter("always")
                warnings.showwarning = self._note
            mine: list[warnings.WarningMessage] = []
            self._heard[threading.get_ident()] = mine
            return mine

    def end(self) -> None:
        with self._lock:
            del self._heard[threading.get_ident()]
            if not self._heard:
                self._caught.__exit__(None, None, None)

    def _note(
        self, message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        mine = self._heard.get(threading.get_ident())
        if mine is None:
            self._others(message, category, filename, lineno, file, line)
        else:
            mine.append(warnings.WarningMessage(message, category, filename, lineno))


_EARS = _Ears()


@contextmanager
def heard() -> Iterator[list[warnings.WarningMessage]]:
    """Collect what this thread is warned of."""
    mine = _EARS.begin()
    try:
        yield mine
    finally:
        _EARS.end()
