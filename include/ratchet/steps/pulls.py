"""Objects of the source, brought here whole and verified; what stands in the way becomes a night's end in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.errors import DataRejected, ObjectChanged, ObjectNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ratchet.domain.snapshots import StoredObject
    from ratchet.steps.context import Context


def pull(ctx: Context, objects: Sequence[StoredObject]) -> Sequence[tuple[Path, str]]:
    """Bring objects here as they have just been listed.

    Returns:
        For each, a local path and the sha256 of its bytes.

    Raises:
        DataRejected: ``changed``; ``corrupt``: what arrives is not what was stored.
    """
    try:
        return ctx.services.store.fetch([(stored, None) for stored in objects])
    except (ObjectChanged, ObjectNotFound) as exc:
        raise DataRejected(
            "changed", f"{exc}; it was overwritten or deleted while it was read, run the night again"
        ) from exc
