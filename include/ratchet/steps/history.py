"""What has happened: nights, champions, and who served when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.ledger import SHOWN, TURNS, LedgerEntry, followed_by, frozen, serving_at
from ratchet.domain.night import Night
from ratchet.domain.records import Record
from ratchet.domain.records import digest as digest_of
from ratchet.domain.snapshots import Snapshot
from ratchet.domain.verdict import Verdict
from ratchet.domain.windows import Span
from ratchet.errors import ObjectNotFound
from ratchet.steps import turns
from ratchet.steps.audit import chain, gate_record, references, signatures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ratchet.steps.context import Services


def nights(services: Services, pipeline: str, limit: int = 100) -> list[Night]:
    """Return a pipeline's recorded nights, newest cutoff first, and of one cutoff the one that was begun last.

    Dry runs come after all others, whatever their cutoffs: they may look at any day, and nothing has happened in them.
    """
    stored = sorted((s.uri for s in services.store.list(layout.nights(pipeline))), reverse=True)
    real_first = sorted(stored, key=lambda uri: uri.endswith("-dry.json"))[:limit]
    found = [night for uri in real_first if (night := _read(services.store.get(uri)))]
    return newest_first(found)


def newest_first(found: Iterable[Night]) -> list[Night]:
    """Return nights in the order in which they are shown."""
    return sorted(found, key=lambda n: (not n.request.dry_run, n.request.cutoff, n.started), reverse=True)


class Learnt(Record):
    """What a version was made from."""

    cutoff: str
    seen_through: str
    snapshot: str = ""  # digest; empty where no record of the night is left
    window: Span | None = None
    rows: int | None = None
    objects: int | None = None
    report: str = ""  # key of the night's page


class Served(Record):
    """Who served at a moment, and what is known of it."""

    pipeline: str
    at: str  # ISO 8601, UTC
    entry: LedgerEntry | None  # by which somebody served then; None: nobody did
    until: LedgerEntry | None = None  # by which somebody else did, or the first of all where nobody served yet
    learnt: Learnt | None = None
    judged: LedgerEntry | None = None  # the entry whose verdict let the version through; after a rollback not ``entry``
    verdict: Verdict | None = None
    approval: str = ""  # who let it through, in words
    frozen: LedgerEntry | None = None
    findings: tuple[Check, ...] = ()  # whether it still verifies

    @property
    def verifies(self) -> bool:
        """Whether everything that was found is as it was recorded."""
        return all(found.outcome in {Outcome.PASS, Outcome.NOT_APPLICABLE} for found in self.findings)


def served(services: Services, pipeline: str, when: datetime) -> Served:
    """Say who served at a moment, since when and until when, made of what, judged how, and let through by whom.

    Args:
        services: the adapters.
        pipeline: whose champion.
        when: the moment, aware of its zone.

    Raises:
        LedgerBroken: the ledger cannot answer.
    """
    entries = turns.look(services, pipeline)
    entry = serving_at(entries, when)
    remembered = Check(name="anchors", outcome=Outcome.PASS, reason="the registry remembers these entries and no other")
    holds = (chain(entries), remembered, signatures(entries, services.ledger.trusted))
    if entry is None or entry.champion is None:
        first = next((later for later in entries if later.action in TURNS), None)
        return Served(pipeline=pipeline, at=when.isoformat(), entry=None, until=first, findings=holds)
    judged = _judged(entries, entry)
    made_by, let_by = night_of(services, pipeline, entry.champion.run_key), None
    if judged:
        let_by = made_by if judged.night == entry.champion.run_key else night_of(services, pipeline, judged.night)
    learnt, snapshot = _learnt(services, pipeline, entry, made_by)
    return Served(
        pipeline=pipeline,
        at=when.isoformat(),
        entry=entry,
        until=followed_by(entries, entry),
        learnt=learnt,
        judged=judged,
        verdict=_verdict(services, judged),
        approval=_approval(judged or entry, let_by),
        frozen=frozen([e for e in entries if datetime.fromisoformat(e.at) <= when], when.date()),
        findings=(*holds, *references(services, pipeline, entry, judged), *([snapshot] if snapshot else [])),
    )


def _judged(entries: Sequence[LedgerEntry], entry: LedgerEntry) -> LedgerEntry | None:
    """Return the entry whose verdict first let a version through: its own, or one before a rollback to it."""
    assert entry.champion
    same = (e for e in reversed(entries[: entry.seq]) if e.champion and e.champion.version == entry.champion.version)
    return next((e for e in same if e.verdict), None)


def _learnt(services: Services, pipeline: str, entry: LedgerEntry, night: Night | None) -> tuple[Learnt, Check | None]:
    assert entry.champion
    known = Learnt(cutoff=str(entry.champion.cutoff), seen_through=str(entry.champion.seen_through))
    if night is None or night.snapshot is None:
        return known, None
    digest = night.snapshot.digest
    known = known.model_copy(
        update={
            "snapshot": digest,
            "rows": night.rows,
            "objects": night.snapshot.objects,
            "report": night.report.page if night.report else "",
        }
    )
    try:
        manifest = Snapshot.model_validate_json(services.store.get(layout.snapshot(pipeline, digest)))
    except (ObjectNotFound, ValidationError) as exc:
        why = "its manifest cannot be read" if isinstance(exc, ValidationError) else str(exc)
        return known, Check(name="snapshot", outcome=Outcome.FAIL, reason=why)
    made = [pipeline, str(night.request.cutoff), digest, night.spec_digest, night.code_digest]
    if digest_of(made) != entry.champion.run_key:  # as ``night.run_key`` makes it
        why = f"the night's record says {digest[:SHOWN]}, from which its run key does not follow: the record was edited"
        return known, Check(name="snapshot", outcome=Outcome.FAIL, reason=why)
    good = manifest.digest == digest
    said = (
        "its manifest is there, and of the recorded digest" if good else f"its manifest gives digest {manifest.digest}"
    )
    held = Check(name="snapshot", outcome=Outcome.PASS if good else Outcome.FAIL, reason=said)
    return known.model_copy(update={"window": manifest.window}), held


def _verdict(services: Services, judged: LedgerEntry | None) -> Verdict | None:
    if judged is None or not judged.night:
        return None
    try:
        return Verdict.model_validate((gate_record(services, judged.pipeline, judged.night) or {}).get("verdict"))
    except ValueError:  # another version wrote it differently; the findings say whether it is the recorded one
        return None


def _approval(entry: LedgerEntry, night: Night | None) -> str:
    asked = night.approve if night else None
    if entry.approved_by:
        said = f": {asked.reason}" if asked and asked.reason else ""
        return f"{entry.approved_by}{said}"
    if asked and not asked.required:
        return "nobody was asked, because the spec did not ask for a person"
    return "no approval is on record"


def night_of(services: Services, pipeline: str, run_key: str) -> Night | None:
    """Find the record of a run that was no dry run."""
    wanted = f"/{run_key[:16]}.json"
    uri = next((s.uri for s in services.store.list(layout.nights(pipeline)) if s.uri.endswith(wanted)), None)
    return _read(services.store.get(uri)) if uri and run_key else None


def _read(record: bytes) -> Night | None:
    """Read a record; one that another version wrote differently must not stand in the way of tonight's."""
    try:
        return Night.model_validate_json(record)
    except ValidationError:
        return None
