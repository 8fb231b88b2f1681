"""Where the pipelines of a fleet stand: each leaves its evidence, and each night reads that of all others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.evidence import Member
from ratchet.errors import ObjectNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratchet.domain.snapshots import StoredObject
    from ratchet.ports import ObjectStore
    from ratchet.steps.context import Context

_AT_ONCE = 8
# What this process has read, by store and by what a listing tells of the object: hundreds of segments ask for the same members.
_READ: WeakKeyDictionary[ObjectStore, dict[tuple[str, str, int], Member]] = WeakKeyDictionary()


def leave(ctx: Context, evidence: Mapping[str, float | None]) -> None:
    """Leave where this pipeline stands for each of its fleets; an older night does not overwrite a newer one."""
    store, name, cutoff = ctx.services.store, ctx.pipeline.name, ctx.night.request.cutoff
    for fleet, value in evidence.items():
        key = layout.fleet_member(fleet, name)
        try:
            there = Member.model_validate_json(store.get(key))
        except (ObjectNotFound, ValidationError):
            there = None
        if there is None or there.cutoff <= cutoff:
            store.put(key, Member(pipeline=name, cutoff=cutoff, evidence=value).model_dump_json().encode())


def members(ctx: Context, fleet: str) -> tuple[Member, ...]:
    """Return the other members; one whose record cannot be read counts, and proves nothing."""
    store = ctx.services.store
    known = _READ.setdefault(store, {})
    stored = list(store.list(layout.fleet_members(fleet)))
    marks = {(found.uri, found.etag, found.size): found for found in stored}
    fresh = [mark for mark in marks if mark not in known]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        read = dict(zip(fresh, pool.map(lambda mark: _member(store, marks[mark]), fresh), strict=True))
    found = {mark: read.get(mark) or known[mark] for mark in marks}
    here = {uri for uri, _, _ in marks}
    _READ[store] = {**{mark: member for mark, member in known.items() if mark[0] not in here}, **found}
    return tuple(member for member in found.values() if member.pipeline != ctx.pipeline.name)


def _member(store: ObjectStore, stored: StoredObject) -> Member:
    name = stored.uri.rpartition("/")[2].removesuffix(".json")
    try:
        return Member.model_validate_json(store.get(stored.uri)).model_copy(update={"pipeline": name})
    except ValidationError:
        return Member(pipeline=name, cutoff=date.min, evidence=0.0)
