"""Prune: delete by the spec's rule what nothing refers to any more."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from ratchet.domain import layout
from ratchet.domain.retention import PREFIXES, Inventory, Kept, NightFact, PrunePlan, plan
from ratchet.domain.segments import split
from ratchet.domain.snapshots import Snapshot
from ratchet.domain.windows import DAY
from ratchet.steps import turns
from ratchet.steps.context import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services


def prunable(services: Services, pipeline: Pipeline) -> PrunePlan:
    """Say what may be deleted.

    Raises:
        LedgerBroken: what is needed cannot be told from a ledger that does not verify.
    """
    return _planned(services, pipeline, turns.look(services, pipeline.name))


def prune(services: Services, pipeline: Pipeline, say: Callable[[str], None] = silent) -> PrunePlan:
    """Delete what may be deleted, and return what that was. Killed half-way and run again, it goes on.

    Raises:
        LedgerBroken: what is needed cannot be told from a ledger that does not verify.
    """
    gone: list[int] = []
    while True:
        entries = turns.look(services, pipeline.name)
        found = _planned(services, pipeline, entries)
        for version in found.versions:
            if turns.look(services, pipeline.name) != entries:  # it may have become champion in the meantime
                break
            say(f"version {version}")
            services.registry.delete_version(pipeline.name, version)
            gone.append(version)
        if turns.look(services, pipeline.name) == entries:
            break
    left = [words for run in found.runs if (words := services.registry.erase(run))]
    for kept in found.objects:
        say(kept.key)
        services.store.delete(kept.key)
    if left:
        say(f"the artifacts of {len(left)} MLflow runs stay until `mlflow gc` removes them: {left[0]}")
    return found.model_copy(update={"versions": tuple(sorted(gone))})


def _planned(services: Services, pipeline: Pipeline, entries: Sequence[LedgerEntry]) -> PrunePlan:
    keep = pipeline.spec.retention
    found = _inventory(services, pipeline.name)
    return plan(found, entries, versions=keep.versions, days=keep.days, league=pipeline.spec.shadows)


def _inventory(services: Services, name: str) -> Inventory:
    store, registry = services.store, services.registry
    objects = tuple(
        Kept(key=_key(stored.uri, prefix), size=stored.size)
        for prefix in PREFIXES
        for stored in store.list(f"{prefix}/{name}/")
    )
    nights = tuple(_night(store.get(o.key), o.key) for o in objects if o.key.startswith("nights/"))
    runs = tuple(registry.tracked(name))
    held = _nights_of_segments(services, name)
    pins = {o.key: store.get(o.key).decode() for o in objects if o.key.startswith("pins/")}
    known = {n.snapshot for n in nights} | {r.snapshot for r in runs} | set(pins.values())
    orphans = [o.key for o in objects if o.key.startswith("snapshots/") and _stem(o.key) not in known]
    manifests = {_stem(key): cutoff for key in orphans if (cutoff := _cutoff(store.get(key)))}
    needed = {n.snapshot for n in nights if n.cutoff in held} | {d for d, cutoff in manifests.items() if cutoff in held}
    needed |= {digest for key, digest in pins.items() if _day(key) in held}
    mine = tuple(o for o in objects if not (_snapshot(o.key) in needed or (o.key in pins and _day(o.key) in held)))
    return Inventory(
        versions=tuple(registry.versions(name)),
        aliases=tuple(registry.aliases(name).values()),
        runs=runs,
        nights=nights,
        pins=pins,
        manifests=manifests,
        objects=(*mine, *_probes(services)),
    )


def models_of(services: Services, pipeline: Pipeline) -> tuple[Pipeline, ...]:
    """Return the pipelines of all segments that have had a night, and the pipeline itself last: what they need of its data is then known."""
    slugs = {
        split(found.uri.split("/")[-3])[1] for found in services.store.list(layout.nights_of_segments(pipeline.name))
    }
    return (*(pipeline.of_segment(slug) for slug in sorted(slugs)), pipeline)


def _nights_of_segments(services: Services, name: str) -> frozenset[date]:
    """Return the cutoffs of the nights of a pipeline's segments that are still kept: these have read the pipeline's snapshots."""
    stored = services.store.list(layout.nights_of_segments(name))
    return frozenset(date.fromisoformat(found.uri.split("/")[-2]) for found in stored)


def _snapshot(key: str) -> str | None:
    return _stem(key) if key.startswith("snapshots/") else None


def _day(key: str) -> date:
    return date.fromisoformat(_stem(key))


def _probes(services: Services) -> tuple[Kept, ...]:
    """Return what killed processes have left of probing the store; one that is under way must not lose its first half."""
    old = layout.probes(datetime.now(UTC).date() - DAY)
    left = (Kept(key=_key(stored.uri, "probes"), size=stored.size) for stored in services.store.list("probes/"))
    return tuple(kept for kept in left if kept.key < old)


def _key(uri: str, prefix: str) -> str:
    return uri[uri.index(f"/{prefix}/") + 1 :]


def _stem(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")


def _night(record: bytes, key: str) -> NightFact:
    """Read what a night refers to; a record that another version wrote is known by its name alone."""
    try:
        told: dict[str, Any] = json.loads(record)
    except ValueError:
        told = {}
    cutoff, run = key.split("/")[-2:]
    return NightFact(
        cutoff=date.fromisoformat(cutoff),
        run=run,
        run_key=told.get("run_key") or "",
        snapshot=(told.get("snapshot") or {}).get("digest") or "",
        recipe_spec=told.get("recipe_spec") or "",
        dry_run=bool((told.get("request") or {}).get("dry_run")),
    )


def _cutoff(manifest: bytes) -> date | None:
    """Return whose night an orphaned snapshot was; one that cannot be read is left alone."""
    try:
        return Snapshot.model_validate_json(manifest).cutoff
    except ValueError:
        return None
