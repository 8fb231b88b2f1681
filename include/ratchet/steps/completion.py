"""Completion: which partitions a night may read yet, which it still has to wait for, and until when."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ratchet.domain.completion import Lacking, Manifest, beside, lacking, named, read_manifest
from ratchet.domain.data_rules import ByManifest, ByMarker
from ratchet.domain.records import Record
from ratchet.domain.source_rules import ByPath
from ratchet.errors import DataRejected, RatchetError
from ratchet.steps.listing import listed
from ratchet.steps.pulls import pull

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ratchet.domain.completion import ManifestFile
    from ratchet.domain.snapshots import Pin, StoredObject
    from ratchet.steps.context import Context
    from ratchet.steps.listing import Listed

_TOLD = 3  # partitions in one message
_PATIENCE = 60.0  # seconds between two looks; a shorter wait is looked at more often
_LEAST = 15.0


class Awaited(Record):
    """Something that a night still hopes for."""

    words: str
    wait_hours: float  # counted from when the night was due


class Complete(Record):
    """What the manifests of a table say of its objects; empty where it has none."""

    named: dict[str, str | None] | None = None  # address → sha256, where known; None: whatever has landed is read
    left_out: int = 0  # objects that no manifest names

    def reads(self, stored: StoredObject) -> bool:
        """Say whether an object belongs to its partition."""
        return self.named is None or stored.uri in self.named

    def check(self, pins: Sequence[Pin]) -> None:
        """Compare the digests of what was read with those that the manifests name.

        Raises:
            DataRejected: ``corrupt``.
        """
        for pin in pins:
            expected = (self.named or {}).get(pin.uri)
            if expected and expected.lower() != pin.sha256:
                raise DataRejected(
                    "corrupt",
                    f"{pin.uri} has the sha256 {pin.sha256}, its manifest says {expected.lower()}; land the object again, or mend "
                    "the manifest, then run the night again",
                )


def complete(ctx: Context, made: Listed, now: datetime) -> Complete:
    """Say which objects of a table are read.

    Raises:
        DataRejected: ``incomplete``, ``missing_object``, or ``corrupt``: a manifest that cannot be read.
    """
    manifests = _manifests(ctx, made)
    refuse(made, _lacking(made, manifests, now))
    if not isinstance(made.table.completion, ByManifest):
        return Complete()
    files: dict[str, ManifestFile] = {}
    for landing in made.landings:
        manifest = manifests[beside(made.table.completion.name, landing)]
        assert isinstance(manifest, Manifest), "what cannot be read was refused"
        files |= named(landing, manifest)
    return Complete(
        named={uri: file.sha256 for uri, file in files.items()},
        left_out=sum(stored.uri not in files for landing in made.landings for stored in landing.objects),
    )


def refuse(made: Listed, found: Sequence[Lacking]) -> None:
    """Reject the night where partitions are incomplete.

    Raises:
        DataRejected: in words that name them, what they lack and since when.
    """
    if not found:
        return
    rule = made.table.completion
    assert rule
    more = f"; and {len(found) - _TOLD} more partitions" if len(found) > _TOLD else ""
    name = rule.name if isinstance(rule, ByMarker | ByManifest) else ""
    todo = {
        "marker": f"Let its writer finish; where the data is whole, write {name} beside it",
        "manifest": f"Let its writer finish, or write {name} as the data is",
        "quiet": f"Let its writer finish; it may be read once {made.field}.completion.minutes have passed without a write",
    }[rule.by]
    raise DataRejected(found[0].reason, f"{'; '.join(map(str, found[:_TOLD]))}{more}. {todo}, then run the night again")


def awaited(ctx: Context, now: datetime) -> tuple[Awaited, ...]:
    """Return what the night hopes for: partitions that are not complete, and the newest day where nothing of it has landed."""
    found: list[Awaited] = []
    for name, (table, span) in ctx.pipeline.spec.reads(ctx.night.request.cutoff).items():
        if table.completion is None:
            continue
        made = listed(ctx, name, table, span)
        hours = table.completion.wait_hours
        missing = _lacking(made, _manifests(ctx, made), now)
        found += [Awaited(words=str(lack), wait_hours=hours) for lack in missing]
        days = {landing.day for landing in made.landings}
        if isinstance(table.partition, ByPath) and span.last not in days:
            found.append(Awaited(words=f"nothing of {span.last} has landed under {table.uri}", wait_hours=hours))
    return tuple(found)


class Wait(Record):
    """Whether a night has to wait before its snapshot."""

    words: str  # for whom, or why not
    until: datetime | None = None  # None: it need not
    pause: float = _PATIENCE  # seconds until it is worth another look


def look(ctx: Context, due: datetime, now: datetime) -> Wait:
    """Look once whether the night has to wait; a fault of the store that may pass is a reason to wait, any other is the snapshot's to tell.

    Args:
        ctx: the night that has just begun.
        due: when it was to begin; the hours of the spec count from there.
        now: the time.
    """
    from ratchet.steps.snapshot import pinned_before  # noqa: PLC0415  which needs this module itself

    longest = timedelta(hours=ctx.pipeline.spec.wait_hours)
    until, pause = due + longest, min(_PATIENCE, max(_LEAST, longest.total_seconds() / 100))
    if now >= until:
        return Wait(words=f"the time to wait was over at {_clock(until)}")
    try:
        if pinned_before(ctx):
            return Wait(words="the snapshot was pinned before")
        found = [a for a in awaited(ctx, now) if now < due + timedelta(hours=a.wait_hours)]
    except RatchetError as exc:
        passes = exc.retryable or (isinstance(exc, DataRejected) and exc.reason == "changed")
        return Wait(words=str(exc), until=until if passes else None, pause=pause)
    if not found:
        return Wait(words="nothing that the night could wait for is missing")
    last = due + timedelta(hours=max(a.wait_hours for a in found))
    more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    words = f"waiting until {_clock(last)} at most: {'; '.join(a.words for a in found[:_TOLD])}{more}"
    return Wait(words=words, until=last, pause=pause)


def wait(
    ctx: Context,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], Any] = time.sleep,
) -> None:
    """Wait in this process until the night's data is complete or its time is over; the snapshot decides what that means."""
    due, said = now(), ""
    while (found := look(ctx, due, now())).until is not None:
        if found.words != said:
            ctx.say(found.words)
            said = found.words
        sleep(max(0.1, min(found.pause, (found.until - now()).total_seconds())))
    ctx.say(found.words)


def _lacking(made: Listed, manifests: Mapping[str, Manifest | str], now: datetime) -> list[Lacking]:
    rule = made.table.completion
    if rule is None:
        return []
    found = []
    for landing in made.landings:
        manifest = manifests.get(beside(rule.name, landing)) if isinstance(rule, ByManifest) else None
        lack = lacking(rule, landing, made.there, manifest, now)
        if lack:
            found.append(lack)
    return sorted(found, key=lambda lack: str(lack.landing.day or ""), reverse=True)  # the newest day first


def _manifests(ctx: Context, made: Listed) -> dict[str, Manifest | str]:
    """Read a table's manifests; the store's cache keeps those that have not changed, so that only new ones are pulled.

    Raises:
        DataRejected: ``changed``, ``corrupt``.
    """
    rule = made.table.completion
    if not isinstance(rule, ByManifest):
        return {}
    keys = [beside(rule.name, landing) for landing in made.landings]
    there = [made.there[key] for key in keys if key in made.there]
    fetched = pull(ctx.services.store, there)
    return {stored.uri: _read(path.read_bytes()) for stored, (path, _) in zip(there, fetched, strict=True)}


def _read(data: bytes) -> Manifest | str:
    try:
        return read_manifest(data)
    except ValueError as exc:
        return str(exc)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
