"""What every step is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ratchet.domain.night import Night
    from ratchet.domain.windows import Windows
    from ratchet.ports import Alerter, Engine, Ledger, ObjectStore, Registry, Reporter, Trainer, Tuner, Validator
    from ratchet.spec import Pipeline


class Nowhere:
    """Fulfils ``ports.Alerter`` where nobody listens."""

    def send(self, message: Mapping[str, Any]) -> str | None:  # noqa: ARG002
        """See ``ports.Alerter.send``."""
        return None


@dataclass(frozen=True)
class Services:
    """The adapters behind the ports, and a folder for what can be made again."""

    store: ObjectStore
    engine: Engine
    validator: Validator
    trainer: Trainer
    registry: Registry
    ledger: Ledger
    reporter: Reporter
    cache: Path
    alerter: Alerter = field(default_factory=Nowhere)
    tuner: Tuner | None = None  # needed by nights that tune


def silent(_message: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Context:
    """One step's view: the pipeline, the night so far, and the services."""

    pipeline: Pipeline
    night: Night
    services: Services
    say: Callable[[str], None] = silent  # progress in words, for whoever watches

    @property
    def run_key(self) -> str:
        """The identity of the run; known once the snapshot is."""
        assert self.night.run_key, "the snapshot comes first"
        return self.night.run_key

    @property
    def windows(self) -> Windows:
        """The night's days."""
        return self.pipeline.spec.windows(self.night.request.cutoff)
