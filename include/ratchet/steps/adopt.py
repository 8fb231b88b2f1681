"""Adopt: take the version that somebody's hand has set the alias to as the champion, in the open."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.domain.checks import Outcome
from ratchet.domain.ledger import Champion, champion_of, frozen, reign
from ratchet.domain.night import TrainResult
from ratchet.domain.verdict import Verdict
from ratchet.errors import ActionRefused, AlreadyExists, ObjectNotFound
from ratchet.steps import fitness, turns
from ratchet.steps.audit import gate_record
from ratchet.steps.champion import CHAMPION, reconcile
from ratchet.steps.promote import may_override
from ratchet.steps.rollback import newest_day

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services

_TRIES = 5  # against entries that leave the champion as it was


def adopt(services: Services, pipeline: Pipeline, *, actor: str, reason: str) -> LedgerEntry:
    """Make the version that the alias names the champion, and return the entry that does.

    Raises:
        ActionRefused: the alias names no other version of ours, its night did not pass it and ``override.allowed`` does not name the
            actor, its artifact is not whole or does not score, it is frozen, or somebody was faster.
        LedgerBroken: the ledger does not verify.
    """
    name, reason = pipeline.name, reason.strip()
    if not reason:
        raise ActionRefused("adoption", name, "it needs a reason; say why with --reason")
    seen = turns.read(services, name)
    alias, head, serving = services.registry.alias(name, CHAMPION), reign(seen), champion_of(seen)
    if serving and serving.version == alias:
        if head and (head.action, head.actor, head.reason) == ("adopt", actor, reason):
            return head  # asked for twice
        why = f"the alias names version {alias}, which is the champion; a night may have set it right already"
        raise ActionRefused("adoption", name, why)
    version = _ours(services, name, alias)
    verdict = _verdict(services, name, version)
    if against := _not_through(pipeline, verdict, actor, reason):
        raise ActionRefused("adoption", name, f"version {alias}: {against}")
    _refuse_frozen(name, seen)
    fit, words = fitness.tried(services, pipeline, version)
    if not fit:
        raise ActionRefused("adoption", name, words)
    judged_through = max(filter(None, (newest_day(services, name), version.cutoff)))
    entries = seen
    for _ in range(_TRIES):
        try:
            return turns.append(
                services,
                name,
                entries,
                "adopt",
                champion=version,
                judged_through=judged_through,
                actor=actor,
                reason=reason,
                reasons=(f"alias {CHAMPION} named it, set by hand", _judged(verdict), words),
            )[-1]
        except AlreadyExists:
            entries = turns.read(services, name)
            if reign(entries) != head:
                break
            _refuse_frozen(name, entries)
    reconcile(services, name)
    raise ActionRefused("adoption", name, "another champion has come since, and the alias follows it again")


def _ours(services: Services, name: str, alias: int | None) -> Champion:
    """Return the version that the alias names, if a night of ours has trained just this."""
    if alias is None:
        raise ActionRefused("adoption", name, f"there is no alias {CHAMPION}; `ratchet reconcile {name}` sets it")
    found = next((v for v in services.registry.versions(name) if v.version == alias), None)
    if found is None:
        raise ActionRefused("adoption", name, f"version {alias} lacks the tags of a version that a night has made")
    key = layout.step(name, found.run_key, "train.json", dry_run=False)
    try:
        trained = TrainResult.model_validate_json(services.store.get(key))
    except ObjectNotFound as exc:
        raise ActionRefused("adoption", name, f"no night has recorded that it trained version {alias}: {exc}") from exc
    if (trained.artifact_digest, trained.mlflow_run_id) != (found.artifact_digest, found.mlflow_run_id):
        why = f"version {alias} is tagged as {found.artifact_digest[:12]}, its night has trained {trained.artifact_digest[:12]}"
        raise ActionRefused("adoption", name, why)
    return Champion(**found.model_dump(include=set(Champion.model_fields)))


def _verdict(services: Services, name: str, version: Champion) -> Verdict | None:
    """Return what its own night made of the version, where that is on record."""
    found = (gate_record(services, name, version.run_key) or {}).get("verdict")
    try:
        return Verdict.model_validate(found)
    except ValueError:
        return None


def _not_through(pipeline: Pipeline, verdict: Verdict | None, actor: str, reason: str) -> str | None:
    """Say why somebody may not adopt what a night made that verdict of, or None: whoever moves an alias needs no less than a promotion."""
    if verdict and verdict.outcome is Outcome.PASS:
        return None
    if verdict and not verdict.overridable:
        return f"{_judged(verdict)}; nothing overrides that"
    refused = may_override(pipeline, actor, reason)
    return f"{_judged(verdict)}; {refused}" if refused else None


def _judged(verdict: Verdict | None) -> str:
    """Say what its own night made of the version: who adopts it takes that upon himself."""
    if verdict is None:
        return "no verdict of its own night is on record"
    against = "; ".join(verdict.reasons) if verdict.outcome is not Outcome.PASS else ""
    return f"its own night's verdict was {verdict.outcome}{f': {against}' if against else ''}"


def _refuse_frozen(name: str, entries: Sequence[LedgerEntry]) -> None:
    freeze = frozen(entries, datetime.now(UTC).date())
    if freeze:
        why = f"{freeze.actor} froze it (entry {freeze.seq}): {freeze.reason}; `ratchet thaw {name}` ends that"
        raise ActionRefused("adoption", name, why)
