"""The model card of a version: gathered from what is on record of it, and kept with the night that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.cards import Card, markdown
from ratchet.domain.explanations import Explanation
from ratchet.errors import IntegrityError, LedgerBroken, ObjectNotFound
from ratchet.steps import card_sections as parts
from ratchet.steps.versions import Known, known, made_by, recipe

if TYPE_CHECKING:
    from ratchet.domain.models import ModelSchema, ModelVersion
    from ratchet.domain.night import Night
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Context, Services

ASKED = "card"


class Facts(NamedTuple):
    """What is on record of a version; None where it is not any more, or never was."""

    name: str
    known: Known
    night: Night | None
    pipeline: Pipeline | None
    schema: ModelSchema | None
    explanation: Explanation | None


def keep_card(ctx: Context) -> None:
    """Write the card of the version that this night has made, where it has made one: to the store and to its MLflow run."""
    night, services, name = ctx.night, ctx.services, ctx.pipeline.name
    version = night.register_.version if night.register_ else None
    if version is None or night.train is None or night.request.dry_run:
        return
    try:
        entries = services.ledger.entries(name)[: _known_by(night)]
    except LedgerBroken:  # the night's page says so; a card must not stand in its way
        entries = ()
    serves = bool(night.promote and night.promote.promoted and night.promote.version == version.version)
    facts = Facts(
        name,
        Known(version, serves, entries),
        night,
        ctx.pipeline,
        _schema(services, version),
        _explanation(services, name, version, night),
    )
    made = card_of(facts)
    files = {"card.html": services.reporter.card(made), "card.md": markdown(made).encode()}
    services.store.put(layout.card(name, version.run_key), files["card.html"], "text/html; charset=utf-8")
    if facts.explanation:
        files["explanation.json"] = facts.explanation.model_dump_json(indent=1).encode()
    services.registry.log(version.mlflow_run_id, files=files, tags={"ratchet.card": "card.html"})


def _known_by(night: Night) -> int:
    """Return how far the ledger went when the night ended, so that a night that is run again writes the same card."""
    if night.promote and night.promote.entry:
        return night.promote.entry
    return night.score.reign if night.score else 0


def card(services: Services, name: str, number: int | None = None) -> Card:
    """Return the card of a version as it is known now, who has served since included; by default the champion's.

    Raises:
        ActionRefused: there is no such version.
        LedgerBroken: the ledger cannot say who serves.
    """
    found = known(services, name, number, ASKED)
    night = made_by(services, name, found.version)
    version = found.version
    return card_of(
        Facts(
            name,
            found,
            night,
            recipe(services, name, version.recipe_spec) if version.recipe_spec else None,
            _schema(services, version),
            _explanation(services, name, version, night),
        )
    )


def card_of(facts: Facts) -> Card:
    """Return the card that the facts make."""
    spec = facts.pipeline.spec if facts.pipeline else None
    return Card(
        pipeline=facts.name,
        version=facts.known.version.version,
        status=parts.status(facts),
        summary=spec.description if spec else "What it is for is not on record any more.",
        sections=tuple(section for make in parts.SECTIONS if (section := make(facts)) is not None),
        explanation=facts.explanation.brief if facts.explanation else None,
    )


def _schema(services: Services, version: ModelVersion) -> ModelSchema | None:
    """Return the schema of a version's artifact; a card is written although it is gone or was tampered with."""
    try:
        return services.registry.download(version.mlflow_run_id, version.artifact_digest)[1].schema_
    except (ObjectNotFound, IntegrityError):
        return None


def _explanation(services: Services, name: str, version: ModelVersion, night: Night | None) -> Explanation | None:
    try:
        return Explanation.model_validate_json(
            services.store.get(layout.explanation(name, version.run_key, dry_run=False))
        )
    except (ObjectNotFound, ValidationError):
        return night.evaluate.explanation if night and night.evaluate else None
