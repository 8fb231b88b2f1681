"""The overview of all pipelines, from the index of each: one listing, and one small object for each that has changed since somebody looked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.errors import ObjectNotFound, RatchetError
from ratchet.steps.overview import LATEST, Shown, as_of_today, look, newest_judged, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.snapshots import StoredObject
    from ratchet.steps.context import Services

__all__ = ["LATEST", "PER_PAGE", "Shown", "look", "newest_judged", "overview"]

PER_PAGE = 100  # pipelines
_AT_ONCE = 16  # objects
_LOCK = threading.Lock()
_READ: dict[str, tuple[str, Shown]] = {}  # by address: the ETag under which it was read, and what it says


def overview(services: Services, names: Sequence[str]) -> list[Shown]:
    """Return where each pipeline stands; one that cannot be read says why, and hides no other.

    One that has no index yet, because no night has ended since there is one, is looked at as its own page does.
    """
    try:
        stored = {_name(found.uri): found for found in services.store.list(layout.overviews())}
    except RatchetError as exc:
        return [Shown(name=name, problem=str(exc)) for name in names]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda name: _shown(services, name, stored.get(name)), names))


def _name(uri: str) -> str:
    return uri.rpartition("/")[2].removesuffix(".json")


def _shown(services: Services, name: str, stored: StoredObject | None) -> Shown:
    if stored is None:
        return look(services, name, LATEST)
    with _LOCK:
        etag, known = _READ.get(stored.uri, ("", None))
    if known is not None and etag == stored.etag:
        return as_of_today(known)
    try:
        found = read(services.store.get(stored.uri))
    except ObjectNotFound:
        found = None
    except RatchetError as exc:
        return Shown(name=name, problem=str(exc))
    if found is not None:
        with _LOCK:
            _READ[stored.uri] = stored.etag, found
    return as_of_today(found) if found else look(services, name, LATEST)
