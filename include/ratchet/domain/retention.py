"""What may be deleted: only what no champion, past or present, no ledger entry, no league and no kept night refers to."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

from ratchet.domain.ledger import LedgerEntry, reign
from ratchet.domain.models import ModelVersion
from ratchet.domain.records import Record
from ratchet.domain.watch import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratchet.domain.ledger import Champion

_FOREVER = 100_000  # days
_CANDIDATES = 7  # of the last challengers, one may yet be promoted (GATES)


class Kept(Record):
    """One stored object."""

    key: str  # without its bucket
    size: int


class TrackedRun(Record):
    """One run of a pipeline's experiment."""

    run_id: str
    run_key: str
    cutoff: date
    snapshot: str  # digest
    dry_run: bool
    running: bool  # and not for longer than any night lives


class NightFact(Record):
    """What a night's record refers to."""

    cutoff: date
    run: str  # the name of its record
    run_key: str = ""  # empty where it never got one
    snapshot: str = ""
    recipe_spec: str = ""
    dry_run: bool = False


class Inventory(Record):
    """Everything that there is of one pipeline."""

    versions: tuple[ModelVersion, ...] = ()
    aliases: tuple[int, ...] = ()  # versions that some alias names
    runs: tuple[TrackedRun, ...] = ()
    nights: tuple[NightFact, ...] = ()
    pins: dict[str, str] = {}  # digest of the snapshot that each note pins, by key
    manifests: dict[
        str, date
    ] = {}  # cutoff of each snapshot that neither a night, a run nor a pin refers to, by digest
    objects: tuple[Kept, ...] = ()


class PrunePlan(Record):
    """What may go, in the order in which it goes: what refers to others before what is referred to."""

    versions: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()
    objects: tuple[Kept, ...] = ()

    @property
    def bytes(self) -> int:
        """What the objects take; what MLflow keeps of its runs is not known."""
        return sum(kept.size for kept in self.objects)


_ORDER = (
    "scores",
    "evidence",
    "trials",
    "tuning",
    "recipes",
    "reports",
    "runs",
    "dry-runs",
    "pins",
    "snapshots",
    "profiles",
    "segments",
    "nights",
)
_PROBES = "probes"  # of the whole bucket; those that come here are leftovers
PREFIXES = _ORDER  # what is looked at; nothing else is ever deleted


def plan(found: Inventory, entries: Sequence[LedgerEntry], *, versions: int, days: int, league: int) -> PrunePlan:
    """Return what may be deleted.

    Args:
        found: what there is.
        entries: the ledger, verified.
        versions: how many of the newest versions stay.
        days: how old a night's cutoff may be, counted from the newest, for all of it to stay.
        league: how many of the last challengers score in shadow.
    """
    needed = _Needed(found, entries, max(versions, league + 1, _CANDIDATES + 1), days)
    order = {name: i for i, name in enumerate((*_ORDER, _PROBES))}
    gone = [kept for kept in found.objects if not needed.object(kept.key)]
    return PrunePlan(
        versions=tuple(sorted(v.version for v in found.versions if v.version not in needed.versions)),
        runs=tuple(sorted(r.run_id for r in found.runs if not needed.run(r))),
        objects=tuple(sorted(gone, key=lambda kept: (order[kept.key.partition("/")[0]], kept.key))),
    )


class _Fact(NamedTuple):
    """What a champion, a version, a night's record or a run refers to."""

    cutoff: date
    run_key: str
    run_id: str = ""
    snapshot: str = ""
    recipe_spec: str = ""
    recipe: str = ""
    passing: bool = False  # a dry run: nothing lasting refers to it


class _Needed:
    """What is referred to."""

    def __init__(self, found: Inventory, entries: Sequence[LedgerEntry], newest: int, days: int) -> None:
        champions = [entry.champion for entry in entries if entry.champion]
        self.versions = {c.version for c in champions} | set(found.aliases) | _newest(found.versions, newest)
        nights = [
            _Fact(n.cutoff, n.run_key, snapshot=n.snapshot, recipe_spec=n.recipe_spec, passing=n.dry_run)
            for n in found.nights
        ]
        runs = [_Fact(r.cutoff, r.run_key, r.run_id, r.snapshot, passing=r.dry_run) for r in found.runs]
        every = [*map(_fact, champions), *map(_fact, found.versions), *nights, *runs]
        cutoffs = [*(fact.cutoff for fact in every), *map(_day, found.pins), *found.manifests.values()]
        self.horizon = max(cutoffs, default=date.max) - timedelta(days=min(days, _FOREVER))
        self.versions |= {v.version for v in found.versions if v.cutoff >= self.horizon}
        lasting = [*map(_fact, champions), *(_fact(v) for v in found.versions if v.version in self.versions)]
        self.artifacts = {c.artifact_digest for c in champions}
        self.artifacts |= {v.artifact_digest for v in found.versions if v.version in self.versions}
        recent = [fact for fact in (*nights, *runs) if fact.cutoff >= self.horizon]
        self.run_ids = {fact.run_id for fact in lasting}
        self.versioned = {fact.run_key for fact in lasting}
        self.keys = {fact.run_key for fact in lasting} | {e.night for e in entries if e.night}
        self.keys |= {r.run_key for r in found.runs if r.running}
        self.keys |= {fact.run_key for fact in recent if fact.run_key and not fact.passing}
        self.recent_keys = {fact.run_key for fact in recent if fact.run_key}
        kept = [*lasting, *recent, *(f for f in (*nights, *runs) if f.run_key in self.keys and not f.passing)]
        self.cutoffs = {fact.cutoff for fact in kept}
        self.pins = {k for k in found.pins if _day(k) >= self.horizon or _day(k) in self.cutoffs} | _newest_pins(found)
        self.snapshots = {fact.snapshot for fact in kept} | {found.pins[key] for key in self.pins}
        self.snapshots |= {d for d, at in found.manifests.items() if at >= self.horizon or at in self.cutoffs}
        self.known = {fact.snapshot for fact in every} | set(found.pins.values()) | set(found.manifests)
        self.known_keys = {fact.run_key for fact in every}
        self.recipes = {fact.recipe_spec for fact in kept}
        self.trials = {name[:16] for fact in kept for name in (fact.recipe_spec, fact.recipe)}
        # Nights go by what the newest search has found; its trials are told in what was found.
        self.search = max((kept.key for kept in found.objects if _is_search(kept.key)), default="")
        told = [
            kept.key
            for kept in found.objects
            if kept.key.startswith("segments/") and not kept.key.endswith("-dry.json")
        ]
        self.segments = max(told, default="")  # says which there are
        watched, serves = guard(entries), reign(entries)
        self.reign = serves.seq if serves else 0
        since = [*(watched.turns if watched else ()), *([serves] if serves else ())]
        self.after = min((e.judged_through for e in since), default=date.min)
        scored = (_dt(kept.key) for kept in found.objects if kept.key.startswith("evidence/"))
        self.newest_day = max(scored, default=date.max)

    def run(self, run: TrackedRun) -> bool:
        """Say whether an MLflow run is needed."""
        if run.running or run.run_id in self.run_ids:
            return True
        if run.run_key in self.versioned and not run.dry_run:
            return False  # a night that was killed has left it, and made its version of another run
        if run.cutoff >= self.horizon:
            return True
        return run.run_key in self.keys and not run.dry_run

    def object(self, key: str) -> bool:
        """Say whether an object is needed; one of a kind that is not known here always is."""
        kind, _, rest = key.partition("/")
        if kind == _PROBES:
            return False
        parts = rest.split("/")[1:]  # without the pipeline's name
        rule = _RULES.get(kind)
        try:
            return rule is None or rule(self, key, parts)
        except (ValueError, IndexError):
            return True  # not one that we have named

    def _scored(self, key: str, parts: list[str]) -> bool:
        version = int(parts[1].partition("=")[2].partition(".")[0])
        day = _dt(key)
        return version in self.versions or day > self.after or day >= self.horizon or day >= self.newest_day

    def _trial(self, _key: str, parts: list[str]) -> bool:
        return int(parts[0]) >= self.reign or parts[1] in self.trials or _day(parts[2]) >= self.horizon

    def _tuning(self, key: str, parts: list[str]) -> bool:
        return key == self.search or date.fromisoformat(parts[1][:10]) >= self.horizon

    def _profile(self, _key: str, parts: list[str]) -> bool:
        digest = parts[1].removesuffix(".json").removesuffix("-fresh")
        return digest in self.artifacts or date.fromisoformat(parts[0]) >= self.horizon

    def _recipe(self, _key: str, parts: list[str]) -> bool:
        return parts[0].removesuffix(".json") in self.recipes

    def _night(self, _key: str, parts: list[str]) -> bool:
        name = parts[1].rpartition(".")[0]
        if date.fromisoformat(parts[0]) >= self.horizon:
            return True
        return any(key.startswith(name) for key in self.keys)  # of a dry run the name ends in -dry, which no key does

    def _segments(self, key: str, parts: list[str]) -> bool:
        return key == self.segments or self._night(key, parts)

    def _run(self, _key: str, parts: list[str]) -> bool:
        return parts[0] in self.keys or parts[0] not in self.known_keys  # it may be on its way

    def _dry(self, _key: str, parts: list[str]) -> bool:
        return parts[0] in self.recent_keys or parts[0] not in self.known_keys

    def _pin(self, key: str, _parts: list[str]) -> bool:
        return key in self.pins

    def _snapshot(self, _key: str, parts: list[str]) -> bool:
        digest = parts[0].removesuffix(".json")
        return digest in self.snapshots or digest not in self.known


_RULES: dict[str, Callable[[_Needed, str, list[str]], bool]] = {
    "scores": _Needed._scored,  # noqa: SLF001  of this module
    "evidence": _Needed._scored,  # noqa: SLF001
    "trials": _Needed._trial,  # noqa: SLF001
    "recipes": _Needed._recipe,  # noqa: SLF001
    "tuning": _Needed._tuning,  # noqa: SLF001
    "profiles": _Needed._profile,  # noqa: SLF001
    "reports": _Needed._night,  # noqa: SLF001
    "nights": _Needed._night,  # noqa: SLF001
    "segments": _Needed._segments,  # noqa: SLF001
    "runs": _Needed._run,  # noqa: SLF001
    "dry-runs": _Needed._dry,  # noqa: SLF001
    "pins": _Needed._pin,  # noqa: SLF001
    "snapshots": _Needed._snapshot,  # noqa: SLF001
}


def _is_search(key: str) -> bool:
    return key.startswith("tuning/") and key.split("/")[2:3] == ["found"]


def _fact(made: Champion | ModelVersion) -> _Fact:
    return _Fact(made.cutoff, made.run_key, made.mlflow_run_id, recipe_spec=made.recipe_spec, recipe=made.recipe)


def _newest(versions: Sequence[ModelVersion], count: int) -> set[int]:
    """Return the newest so many by number and by cutoff: the league knows them by either."""
    by_number = sorted((v.version for v in versions), reverse=True)[:count]
    by_cutoff = sorted(((v.cutoff, v.version) for v in versions), reverse=True)[:count]
    return {*by_number, *(version for _, version in by_cutoff)}


def _newest_pins(found: Inventory) -> set[str]:
    """Return the newest note of each scope: the next night begins from it."""
    newest: dict[str, str] = {}
    for key in sorted(found.pins):
        newest[key.rpartition("/")[0]] = key
    return set(newest.values())


def _day(key: str) -> date:
    return date.fromisoformat(key.rpartition("/")[2].removesuffix(".json"))


def _dt(key: str) -> date:
    return date.fromisoformat(key.split("/dt=")[1][:10])
