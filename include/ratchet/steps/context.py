"""What every step is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratchet.domain.night import Night
    from ratchet.ports import Engine, Ledger, ObjectStore, Registry, Trainer, Validator
    from ratchet.spec import Pipeline


@dataclass(frozen=True)
class Services:
    """The adapters behind the ports."""

    store: ObjectStore
    engine: Engine
    validator: Validator
    trainer: Trainer
    registry: Registry
    ledger: Ledger


def silent(_message: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Context:
    """One step's view: the pipeline, the night so far, and the services."""

    pipeline: Pipeline
    night: Night
    services: Services
    say: Callable[[str], None] = silent  # progress in words, for whoever watches
