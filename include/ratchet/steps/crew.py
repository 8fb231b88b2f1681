"""Parallel processes that share nothing but what lies in the stores."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from ratchet.errors import RatchetError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ratchet.steps.context import Services

    Worlds = Callable[[str], Services]  # services by the name of a world; a process of its own gets a copy of this
    Item = TypeVar("Item")
    Result = TypeVar("Result")


class _Failed(NamedTuple):
    """An error in words: ours own their wording, so they do not travel between processes."""

    words: str


_HERE: list[Worlds] = []  # in a process of the crew: what builds its services, each once


class Crew:
    """Does the same work on many items, in processes of its own; with one job, in this one.

    Args:
        worlds: builds services; it is sent to the processes.
        jobs: how many processes.
    """

    def __init__(self, worlds: Worlds, jobs: int) -> None:
        self.worlds: Worlds = cache(worlds)
        self._given, self._jobs = worlds, jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Start nothing yet; the processes start with the first work."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go what is not begun, and wait for what is."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(self, work: Callable[[Worlds, Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Yield each item with what the work made of it, as it comes.

        Raises:
            ServiceError: a process died.
            RatchetError: the work failed.
        """
        if self._jobs == 1 or not items:
            for item in items:
                yield item, work(self.worlds, item)
            return
        if self._pool is None:
            # Spawned, because a fork would copy locks that threads of DuckDB and XGBoost hold.
            self._pool = ProcessPoolExecutor(self._jobs, get_context("spawn"), _begin, (self._given,))
        futures = {self._pool.submit(_do, work, item): item for item in items}
        try:
            for done in as_completed(futures):
                result = done.result()
                if isinstance(result, _Failed):
                    raise RatchetError(result.words)
                yield futures[done], result
        except BrokenProcessPool as exc:
            words = "a process of it died, most likely for want of memory; run it again with fewer --jobs to go on"
            raise ServiceError("replay", "working in parallel", words) from exc


def _begin(worlds: Worlds) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the first process decides
    atexit.register(os._exit, 0)  # as `ratchet.cli.entry` ends, for the same reason
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _HERE.append(cache(worlds))


def _end_with_parent() -> None:
    """End when the first process has been killed: the pool's queue would be waited on for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(work: Callable[[Worlds, Any], Any], item: Any) -> Any:
    try:
        return work(_HERE[0], item)
    except RatchetError as exc:
        return _Failed(str(exc))
