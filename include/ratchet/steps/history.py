"""What has happened: nights, champions, and where a pipeline stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.night import Night

if TYPE_CHECKING:
    from ratchet.steps.context import Services


def nights(services: Services, pipeline: str, limit: int = 100) -> list[Night]:
    """Return a pipeline's recorded nights, newest cutoff first, and of one cutoff the one that was begun last."""
    stored = sorted((s.uri for s in services.store.list(layout.nights(pipeline))), reverse=True)[:limit]
    found = [night for uri in stored if (night := _read(services.store.get(uri)))]
    return sorted(found, key=lambda night: (night.request.cutoff, night.started), reverse=True)


def _read(record: bytes) -> Night | None:
    """Read a record; one that another version wrote differently must not stand in the way of tonight's."""
    try:
        return Night.model_validate_json(record)
    except ValidationError:
        return None
