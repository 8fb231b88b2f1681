"""A stack for a test: on free ports, in a folder of its own, and gone with the test's process at the latest."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratchet.stack.catalogue import closure
from ratchet.stack.control import down, environment, up
from ratchet.stack.ports import reserved

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ratchet.stack.view import Status


@dataclass(frozen=True)
class Embedded:
    """A running stack: where its state lies, and the variables that lead to it."""

    state: Path
    environment: dict[str, str]
    status: Status


@contextmanager
def embedded(state: Path, services: Iterable[str] = ("s3", "mlflow"), **options: Any) -> Iterator[Embedded]:
    """Run services for a `with` block; `options` go to `up`.

    Without Airflow this takes about as long as importing MLflow once.
    """
    with reserved(closure(services)) as ports:
        try:
            found = up(state, services=services, ports=ports, owner=os.getpid(), **options)
            yield Embedded(state, environment(state), found)
        finally:
            down(state)
