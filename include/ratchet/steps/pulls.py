"""Objects of the source, brought here whole and verified; what stands in the way becomes a night's end in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.snapshots import StoredObject
from ratchet.errors import ArtifactTampered, DataRejected, ObjectChanged, ObjectCorrupt, ObjectNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ratchet.domain.snapshots import Pin
    from ratchet.ports import ObjectStore

REPIN = "run with --repin to take what is there now"


def pull(store: ObjectStore, objects: Sequence[StoredObject]) -> Sequence[tuple[Path, str]]:
    """Bring objects here as they have just been listed.

    Returns:
        For each, a local path and the sha256 of its bytes.

    Raises:
        DataRejected: ``changed``; ``corrupt``: what arrives is not what was stored.
    """
    try:
        return store.fetch([(stored, None) for stored in objects])
    except (ObjectChanged, ObjectNotFound) as exc:
        raise DataRejected(
            "changed", f"{exc}; it was overwritten or deleted while it was read, run the night again"
        ) from exc
    except ObjectCorrupt as exc:
        raise DataRejected("corrupt", f"{exc}, then run the night again") from exc


def pull_pinned(store: ObjectStore, pins: Sequence[Pin], otherwise: str = REPIN) -> Sequence[tuple[Path, str]]:
    """Bring exactly the bytes here that a snapshot pins; never what lies under the key by now.

    Args:
        store: where they lie.
        pins: which.
        otherwise: what else a person can do where they cannot be had.

    Raises:
        DataRejected: ``snapshot_gone``, ``changed``, ``corrupt``.
    """
    try:
        return store.fetch([(stored(pin), pin.sha256) for pin in pins])
    except ObjectNotFound as exc:
        raise DataRejected(
            "snapshot_gone", f"{exc}; the snapshot pins it. Restore that version, or {otherwise}"
        ) from exc
    except (ObjectChanged, ArtifactTampered) as exc:
        raise DataRejected("changed", f"{exc}. Restore what was pinned, or {otherwise}") from exc
    except ObjectCorrupt as exc:
        raise DataRejected("corrupt", f"{exc}, or {otherwise}") from exc


def stored(pin: Pin) -> StoredObject:
    """Return the object version that a pin names."""
    return StoredObject(uri=pin.uri, size=pin.size, etag=pin.etag, version=pin.version, modified=pin.modified)
