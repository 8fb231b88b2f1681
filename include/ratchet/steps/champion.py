"""Who serves: the newest ledger entry says so, and the MLflow alias follows it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ratchet.domain.ledger import champion_of
from ratchet.domain.models import ModelVersion
from ratchet.errors import RatchetError, ServiceRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.steps.context import Services

_LOG = logging.getLogger("ratchet.alerts")
CHAMPION, CHALLENGER = "champion", "challenger"


def champion_version(entries: Sequence[LedgerEntry]) -> ModelVersion | None:
    """Return the champion as the newest entry describes it; the registry is not asked, because it can be edited."""
    champion = champion_of(entries)
    return ModelVersion(**champion.model_dump()) if champion else None


def reconcile(services: Services, pipeline: str) -> str | None:
    """Set the alias right, and say what was wrong with it.

    The ledger is read again after each move: of two promoters the slower one must not leave its own version behind.
    """
    said = None
    while (entries := services.ledger.entries(pipeline)) and (champion := champion_of(entries)):
        wanted, found = champion.version, services.registry.alias(pipeline, CHAMPION)
        if found == wanted:
            break
        was = f"pointed at version {found}" if found else "was missing"
        try:
            services.registry.set_alias(pipeline, CHAMPION, wanted)
        except ServiceRefused:
            if wanted in {v.version for v in services.registry.versions(pipeline)}:
                raise
            gone = (
                f"version {wanted}, which serves by the ledger (entry {entries[-1].seq}), was deleted from the registry"
            )
            said = f"alias {CHAMPION} {was}: {gone}; roll back, or let a night promote another"
            _LOG.error("%s: %s", pipeline, said)
            return said  # nights go on: the next champion mends it
        said = f"alias {CHAMPION} {was}, the ledger says version {wanted} (entry {entries[-1].seq}): set right"
        before = champion_of(entries[:-1])
        if found != (before.version if before else None):  # it did not only lag behind
            _LOG.error("%s: %s", pipeline, said)
    return said


def problem_of(error: Exception) -> str:
    """Say why a model that was registered before cannot be used tonight; what may pass, or is the machine's, goes on.

    Raises:
        Exception: the error itself, where it says nothing about the model.
    """
    if getattr(error, "retryable", False) or isinstance(error, OSError | MemoryError):
        raise error
    return str(error) if isinstance(error, RatchetError) else f"{type(error).__name__}: {error}"[:500]
