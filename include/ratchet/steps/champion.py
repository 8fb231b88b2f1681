"""Who serves: the newest ledger entry says so, and the MLflow alias follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.models import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.steps.context import Services

CHAMPION, CHALLENGER = "champion", "challenger"


def champion_version(entries: Sequence[LedgerEntry]) -> ModelVersion:
    """Return the champion as the newest entry describes it; the registry is not asked, because it can be edited."""
    return ModelVersion(**entries[-1].champion.model_dump())


def reconcile(services: Services, pipeline: str, entries: Sequence[LedgerEntry]) -> str | None:
    """Set the alias right, and say what was wrong with it."""
    if not entries:
        return None
    wanted, found = entries[-1].champion.version, services.registry.alias(pipeline, CHAMPION)
    if found == wanted:
        return None
    services.registry.set_alias(pipeline, CHAMPION, wanted)
    was = f"pointed at version {found}" if found else "was missing"
    return f"alias {CHAMPION} {was}, the ledger says version {wanted} (entry {entries[-1].seq}): set right"
