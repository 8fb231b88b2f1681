"""audit: whether the ledger holds, and whether what it refers to is still there as it was recorded. Writes nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.ledger import (
    JUDGED,
    SHOWN,
    Champion,
    LedgerEntry,
    anchored,
    champion_of,
    rollback_target,
    verified,
)
from ratchet.domain.records import Record, digest
from ratchet.errors import IntegrityError, LedgerBroken, ObjectNotFound, RatchetError
from ratchet.steps.champion import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any

    from ratchet.domain.ledger import Trusted
    from ratchet.domain.models import ModelVersion
    from ratchet.steps.context import Services

_PARALLEL = 8
_COMPARED = ("artifact_digest", "run_key", "mlflow_run_id", "cutoff", "seen_through")  # of a version and its tags


class Audit(Record):
    """What was found, one line each."""

    pipeline: str
    entries: int
    head: str = ""  # hash of the newest entry
    findings: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether everything could be checked and was as recorded."""
        return all(found.outcome in {Outcome.PASS, Outcome.NOT_APPLICABLE} for found in self.findings)


def audit(
    services: Services, pipeline: str, *, deep: bool = False, earlier: Sequence[LedgerEntry] | None = None
) -> Audit:
    """Check a pipeline's ledger against itself, its anchors, its keys, the registry and the nights' records.

    Args:
        services: the adapters.
        pipeline: whose ledger.
        deep: download and hash the artifact of every champion that ever was, not only of this one and the one to roll back to.
        earlier: what was exported before; it must be how the ledger begins.
    """
    found = [_tried("store", lambda: _store(services))]
    try:
        entries = services.ledger.entries(pipeline)
    except LedgerBroken as exc:
        return Audit(pipeline=pipeline, entries=0, findings=(*found, _check("chain", Outcome.FAIL, str(exc))))
    found += [
        chain(entries),
        signatures(entries, services.ledger.trusted),
        _tried("anchors", lambda: _anchors(pipeline, entries, services.registry.anchors(pipeline))),
        _tried("alias", lambda: _alias(entries, services.registry.alias(pipeline, CHAMPION))),
        *_versions(services, pipeline, entries),
        *_artifacts(services, entries if deep else (), _near(entries)),
        *_verdicts(services, entries),
    ]
    if earlier is not None:
        found.append(_begins_with(entries, earlier))
    return Audit(
        pipeline=pipeline, entries=len(entries), head=entries[-1].hash if entries else "", findings=tuple(found)
    )


def audit_export(lines: Sequence[str], trusted: Trusted) -> tuple[Audit, tuple[LedgerEntry, ...]]:
    """Check an exported ledger against itself and keys: no service is asked."""
    entries: list[LedgerEntry] = []
    pipeline = ""
    try:
        for number, line in enumerate((line for line in lines if line.strip()), start=1):
            try:
                entries.append(LedgerEntry.model_validate_json(line))
            except ValidationError as exc:
                raise LedgerBroken(
                    pipeline or "this file", number, f"line {number} is not a ledger entry: {exc.errors()[0]['msg']}"
                ) from exc
            pipeline = entries[0].pipeline
        held = verified(pipeline, entries, trusted)
    except LedgerBroken as exc:
        broken = _check("chain", Outcome.FAIL, str(exc))
        return Audit(pipeline=pipeline, entries=len(entries), findings=(broken,)), ()
    if not held:
        empty = _check("chain", Outcome.FAIL, "the file holds no entry")
        return Audit(pipeline="", entries=0, findings=(empty,)), ()
    findings = (chain(held), signatures(held, trusted))
    return Audit(pipeline=pipeline, entries=len(held), head=held[-1].hash, findings=findings), held


def references(services: Services, pipeline: str, entry: LedgerEntry, judged: LedgerEntry | None) -> tuple[Check, ...]:
    """Check what one turn refers to: its version, that version's artifact, and the verdict that let it through."""
    assert entry.champion, "a turn names its champion"
    return (
        *_versions(services, pipeline, [entry]),
        *_artifacts(services, (), [entry.champion]),
        *(_verdicts(services, [judged]) if judged else ()),
    )


def chain(entries: Sequence[LedgerEntry]) -> Check:
    """Say of entries that were read, and so are verified, that they are."""
    if not entries:
        return _check("chain", Outcome.PASS, "the ledger has no entries yet")
    each = "its only entry fits" if len(entries) == 1 else f"{len(entries)} entries continue each other, and each fits"
    return _check("chain", Outcome.PASS, f"{each} its hash; the newest is {entries[-1].hash[:SHOWN]}")


def signatures(entries: Sequence[LedgerEntry], trusted: Collection[str]) -> Check:
    """Say by whom entries that were read are signed; with trusted keys, reading has verified it."""
    signed = [entry for entry in entries if entry.signature]
    if not signed:
        why = "no entry is signed: edits are found by the chain and its anchors, but not if both were written anew"
        return _check("signatures", Outcome.NOT_APPLICABLE, why if entries else "there is nothing to sign yet")
    by = ", ".join(dict.fromkeys(entry.key[:SHOWN] for entry in signed))
    if not trusted:
        why = f"{len(signed)} entries are signed by key {by}, but no key is trusted here; set RATCHET_TRUSTED_KEYS, or give --key"
        return _check("signatures", Outcome.UNDECIDED, why)
    vouched = f", which vouches for the {signed[0].seq - 1} before it" if signed[0].seq > 1 else ""
    whole = f"from entry {signed[0].seq}{vouched}, every entry is signed by a trusted key: {by}"
    return _check("signatures", Outcome.PASS, whole)


def gate_record(services: Services, pipeline: str, run_key: str) -> Mapping[str, Any] | None:
    """Return a night's recorded gate result as it lies there, from the night's record where the step kept none."""
    store = services.store
    try:
        found = json.loads(store.get(layout.step(pipeline, run_key, "gate.json", dry_run=False)))
    except ObjectNotFound:
        wanted = f"/{run_key[:16]}.json"
        uri = next((s.uri for s in store.list(layout.nights(pipeline)) if s.uri.endswith(wanted)), None)
        found = json.loads(store.get(uri)).get("gate") if uri else None
    return found if isinstance(found, dict) else None


def _store(services: Services) -> Check:
    services.store.probe()
    return _check("store", Outcome.PASS, "of two conditional writes of one key it refuses the second")


def _anchors(pipeline: str, entries: Sequence[LedgerEntry], anchors: Mapping[int, str]) -> Check:
    loose = anchored(pipeline, entries, anchors)
    if loose and (len(loose) > 1 or loose[0].seq != len(entries)):
        which = ", ".join(str(entry.seq) for entry in loose[:10]) + (" …" if len(loose) > 10 else "")  # noqa: PLR2004
        why = (
            f"the registry remembers no hash of entry {which}; only the newest may wait for its own. Either the registry was "
            "edited or made anew, or these are older than anchors: compare them with an export, then `ratchet reconcile "
            f"{pipeline}` remembers them"
        )
        return _check("anchors", Outcome.FAIL, why)
    waits = f"; entry {len(entries)} waits for the next night to anchor it" if loose else ""
    return _check(
        "anchors",
        Outcome.PASS,
        f"the registry remembers {_counted(len(anchors), 'hash', 'hashes')}, and finds them here{waits}",
    )


def _alias(entries: Sequence[LedgerEntry], alias: int | None) -> Check:
    serving = champion_of(entries)
    wanted = serving.version if serving else None
    if alias == wanted:
        says = (
            f"it names version {alias}, as the newest entry does" if alias else "it is not set, and nobody serves yet"
        )
        return _check("alias", Outcome.PASS, says)
    found = f"names version {alias}" if alias else "is not set"
    if not entries:
        why = f"it {found}, but the ledger has no entries: the ledger was emptied, or the alias was set by hand"
        return _check("alias", Outcome.FAIL, why)
    why = (
        f"it {found}, the newest entry says version {wanted}; `ratchet reconcile {entries[-1].pipeline}` sets it right"
    )
    return _check("alias", Outcome.FAIL, why)


def _versions(services: Services, pipeline: str, entries: Sequence[LedgerEntry]) -> list[Check]:
    """Compare every champion with the version that the registry has of it."""
    champions = _champions(entries)

    def made() -> list[Check]:
        there = {version.version: version for version in services.registry.versions(pipeline)}
        return [_version(champion, there.get(champion.version)) for champion in champions]

    try:
        found = made() if champions else []
    except RatchetError as exc:
        return [_check("versions", Outcome.UNDECIDED, f"the registry could not be asked: {exc}")]
    return _gathered("versions", found, f"registered as recorded: {_numbered(champions)}")


def _version(champion: Champion, there: ModelVersion | None) -> Check:
    name = f"version {champion.version}"
    if there is None:
        why = "it is not in the registry any more; its artifact may still lie with MLflow run "
        return _check(name, Outcome.FAIL, why + champion.mlflow_run_id)
    wrong = [
        f"{field}: expected {getattr(champion, field)}, found {getattr(there, field)}"
        for field in _COMPARED
        if getattr(champion, field) != getattr(there, field)
    ]
    return _check(name, Outcome.FAIL if wrong else Outcome.PASS, "; ".join(wrong) or "as recorded")


def _artifacts(services: Services, entries: Sequence[LedgerEntry], also: Sequence[Champion]) -> list[Check]:
    """Download artifacts anew and compare their digests."""
    wanted = {champion.version: champion for champion in (*_champions(entries), *also)}

    def of(champion: Champion) -> Check:
        def made() -> Check:
            services.registry.download(champion.mlflow_run_id, champion.artifact_digest, fresh=True)
            return _check(f"artifact of version {champion.version}", Outcome.PASS, "as recorded")

        return _tried(f"artifact of version {champion.version}", made)

    found = [of(champion) for _, champion in sorted(wanted.items())]
    return _gathered("artifacts", found, f"downloaded anew, and of the recorded sha256: {_numbered(wanted.values())}")


def _verdicts(services: Services, entries: Sequence[LedgerEntry]) -> list[Check]:
    """Compare the verdict that each entry names with the night's record of it."""
    judged = [entry for entry in entries if entry.verdict or entry.action in JUDGED]
    with ThreadPoolExecutor(_PARALLEL) as pool:
        found = list(pool.map(lambda entry: _verdict(services, entry), judged))
    return _gathered(
        "verdicts", found, f"as the nights recorded them: those of {_counted(len(judged), 'entry', 'entries')}"
    )


def _verdict(services: Services, entry: LedgerEntry) -> Check:
    name = f"verdict of entry {entry.seq}"

    def made() -> Check:
        if not entry.verdict:
            why = f"a {entry.action} names the verdict that let it through, found none: no night of Ratchet's has written this entry"
            return _check(name, Outcome.FAIL, why)
        gate = gate_record(services, entry.pipeline, entry.night) if entry.night else None
        if gate is None or "verdict" not in gate:
            why = f"no record of run {entry.night[:SHOWN] or 'of no key'} is left that it could be compared with"
            return _check(name, Outcome.UNDECIDED, why)
        found = digest(gate["verdict"])
        if found != entry.verdict:
            why = f"expected sha256 {entry.verdict[:SHOWN]}, found {found[:SHOWN]}: the record of run {entry.night[:SHOWN]} was edited"
            return _check(name, Outcome.FAIL, why)
        return _check(name, Outcome.PASS, "as recorded")

    return _tried(name, made)


def _begins_with(entries: Sequence[LedgerEntry], earlier: Sequence[LedgerEntry]) -> Check:
    name = "earlier export"
    for before in earlier:
        now = entries[before.seq - 1] if before.seq <= len(entries) else None
        if now is None or now.hash != before.hash:
            what = "it is gone" if now is None else f"found hash {now.hash[:SHOWN]}"
            why = f"entry {before.seq} was exported with hash {before.hash[:SHOWN]}; now {what}"
            return _check(name, Outcome.FAIL, why)
    return _check(name, Outcome.PASS, f"its {len(earlier)} entries are how the ledger begins")


def _near(entries: Sequence[LedgerEntry]) -> list[Champion]:
    """Return who serves, and who would after a rollback."""
    return [champion for champion in (champion_of(entries), rollback_target(entries)[0]) if champion]


def _champions(entries: Iterable[LedgerEntry]) -> list[Champion]:
    return list(dict.fromkeys(entry.champion for entry in entries if entry.champion))


def _numbered(champions: Iterable[Champion]) -> str:
    numbers = sorted({champion.version for champion in champions})
    return f"version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _gathered(name: str, found: Sequence[Check], said: str) -> list[Check]:
    """Keep each finding that does not hold, and say in one line what was found if all do."""
    wrong = [check for check in found if check.outcome is not Outcome.PASS]
    return wrong or ([_check(name, Outcome.PASS, said)] if found else [])


def _tried(name: str, made: Callable[[], Check]) -> Check:
    """Make a check; one that cannot be made is undecided, and what it finds broken has failed."""
    try:
        return made()
    except (IntegrityError, ObjectNotFound) as exc:
        return _check(name, Outcome.FAIL, str(exc))
    except RatchetError as exc:
        return _check(name, Outcome.UNDECIDED, f"it could not be checked: {exc}")
    except ValueError as exc:
        return _check(name, Outcome.FAIL, f"the record cannot be read: {exc}"[:500])


def _check(name: str, outcome: Outcome, reason: str) -> Check:
    return Check(name=name, outcome=outcome, reason=reason)
