"""A registered version, and what is on record of it, for whoever asks about one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.night import Night
from ratchet.errors import ActionRefused, ObjectNotFound
from ratchet.spec import Pipeline
from ratchet.steps import history, turns
from ratchet.steps.champion import champion_version

if TYPE_CHECKING:
    from datetime import date

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.models import ModelVersion
    from ratchet.steps.context import Services


class Known(NamedTuple):
    """One version of a pipeline."""

    version: ModelVersion
    serves: bool
    ledger: tuple[LedgerEntry, ...]


def known(services: Services, name: str, number: int | None, asked: str) -> Known:
    """Find a version; by default the champion, and where there is none, the newest.

    Args:
        services: the adapters.
        name: of the pipeline, or of one of its segments.
        number: of the version.
        asked: what is wanted of it, for messages.

    Raises:
        ActionRefused: there is no such version; the words name those that there are.
    """
    entries = turns.look(services, name)
    champion, versions = champion_version(entries), services.registry.versions(name)
    if champion is not None and number in {
        None,
        champion.version,
    }:  # as the ledger describes it: the registry can be edited
        created = next((v.created for v in versions if v.version == champion.version), "")
        return Known(champion.model_copy(update={"created": created}), serves=True, ledger=entries)
    found = next((v for v in versions if number in {None, v.version}), None)
    if found is None:
        there = ", ".join(str(v.version) for v in versions[:10])
        why = (
            f"the registry has no version {number}; the newest are {there}"
            if there
            else "no version was registered yet"
        )
        raise ActionRefused(asked, name, why)
    return Known(found, serves=False, ledger=entries)


def made_by(services: Services, name: str, version: ModelVersion) -> Night | None:
    """Return the record of the night that made a version, where one is left."""
    return history.night_of(services, name, version.run_key)


def night_at(services: Services, name: str, cutoff: date) -> Night | None:
    """Return the night of a cutoff that was begun last and has read any data; no dry run."""
    found = []
    for stored in services.store.list(f"{layout.nights(name)}{cutoff}/"):
        try:
            night = Night.model_validate_json(services.store.get(stored.uri))
        except ValidationError:  # another version wrote it differently
            continue
        if night.snapshot and night.validate_ and not night.request.dry_run:
            found.append(night)
    return max(found, key=lambda night: night.started, default=None)


def recipe(services: Services, name: str, recipe_spec: str) -> Pipeline | None:
    """Return a recipe as it was declared, where it is still on record."""
    try:
        return Pipeline.model_validate_json(services.store.get(layout.recipe(name, recipe_spec)))
    except (ObjectNotFound, ValidationError):
        return None
