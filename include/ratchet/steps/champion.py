"""Who serves: the newest ledger entry says so, and the MLflow alias follows it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.ledger import champion_of, predecessor_of, reign
from ratchet.domain.models import ModelVersion
from ratchet.errors import DataRejected, ObjectNotFound, RatchetError, ServiceRefused
from ratchet.spec import Pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.measuring import Measuring
    from ratchet.domain.models import ModelFiles
    from ratchet.steps.context import Services

_LOG = logging.getLogger("ratchet.alerts")
CHAMPION, CHALLENGER = "champion", "challenger"


def champion_version(entries: Sequence[LedgerEntry]) -> ModelVersion | None:
    """Return the champion as the newest entry describes it; the registry is not asked, because it can be edited."""
    champion = champion_of(entries)
    return ModelVersion(**champion.model_dump()) if champion else None


def recipe_of(services: Services, pipeline: str, champion: ModelVersion) -> tuple[Pipeline | None, str]:
    """Return a champion's recipe as it was declared, or why it is not known."""
    try:
        found = Pipeline.model_validate_json(services.store.get(layout.recipe(pipeline, champion.recipe_spec)))
    except ObjectNotFound:
        return None, "its recipe was not kept"
    except ValidationError:
        return None, "its recipe was kept in a form that this version of Ratchet does not read"
    if found.recipe != champion.recipe_spec:
        return (
            None,
            "what is kept as its recipe is another one, or was kept by a version of Ratchet that named it otherwise",
        )
    return found, ""


class Repair(NamedTuple):
    """What was wrong with the alias."""

    words: str
    by_hand: bool  # somebody has moved it, or deleted what it named; else a run died before the alias could follow


def lags(services: Services, pipeline: str, entries: Sequence[LedgerEntry]) -> bool:
    """Say whether the alias still names the champion before this one, because whoever made this one has not come to move it.

    An entry is anchored once the alias has followed it: an alias that is behind an anchored entry was moved by hand.
    """
    head, before = reign(entries), predecessor_of(entries)
    if head is None or services.registry.alias(pipeline, CHAMPION) != (before.version if before else None):
        return False
    return head.seq not in services.registry.anchors(pipeline)


def reconcile(services: Services, pipeline: str) -> Repair | None:
    """Set the alias right, and say what was wrong with it.

    The ledger is read again after each move: of two promoters the slower one must not leave its own version behind.
    """
    said: Repair | None = None
    while (entries := services.ledger.entries(pipeline)) and (champion := champion_of(entries)):
        wanted, found = champion.version, services.registry.alias(pipeline, CHAMPION)
        if found == wanted:
            break
        was = f"pointed at version {found}" if found else "was missing"
        lagged = lags(services, pipeline, entries)
        try:
            services.registry.set_alias(pipeline, CHAMPION, wanted)
        except ServiceRefused:
            if wanted in {v.version for v in services.registry.versions(pipeline)}:
                raise
            gone = (
                f"version {wanted}, which serves by the ledger (entry {entries[-1].seq}), was deleted from the registry"
            )
            words = f"alias {CHAMPION} {was}: {gone}; roll back, or let a night promote another"
            _LOG.error("%s: %s", pipeline, words)
            return Repair(words, by_hand=True)  # nights go on: the next champion mends it
        words = f"alias {CHAMPION} {was}, the ledger says version {wanted} (entry {entries[-1].seq}): set right"
        said = Repair(words, by_hand=not lagged or (said is not None and said.by_hand))
        if not lagged:
            _LOG.error("%s: %s", pipeline, words)
    return said


def refuse_strange(files: ModelFiles, how: Measuring) -> None:
    """Refuse a model whose predictions cannot be held against those of the spec's.

    Raises:
        DataRejected: ``schema``, when it was made for another task, or for other quantiles.
    """
    if strange := files.schema_.strange_to(how.task, how.quantiles):
        raise DataRejected("schema", strange)


def problem_of(error: Exception) -> str:
    """Say why a model that was registered before cannot be used tonight; what may pass, or is the machine's, goes on.

    Raises:
        Exception: the error itself, where it says nothing about the model.
    """
    if getattr(error, "retryable", False) or isinstance(error, OSError | MemoryError):
        raise error
    return str(error) if isinstance(error, RatchetError) else f"{type(error).__name__}: {error}"[:500]
