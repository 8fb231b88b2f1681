"""What has happened: nights, champions, and where a pipeline stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.domain.night import Night

if TYPE_CHECKING:
    from ratchet.steps.context import Services


def nights(services: Services, pipeline: str, limit: int = 100) -> list[Night]:
    """Return a pipeline's recorded nights, newest cutoff first, and of one cutoff the one that was begun last."""
    stored = sorted((s.uri for s in services.store.list(layout.nights(pipeline))), reverse=True)[:limit]
    found = [Night.model_validate_json(services.store.get(uri)) for uri in stored]
    return sorted(found, key=lambda night: (night.request.cutoff, night.started), reverse=True)
