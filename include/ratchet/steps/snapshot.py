"""snapshot: pin the exact object versions that this night reads."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.domain.night import SnapshotResult
from ratchet.domain.snapshots import Pin, Snapshot
from ratchet.domain.source_rules import ByColumn, Table
from ratchet.errors import AlreadyExists, DataRejected, NightSkipped, ObjectNotFound
from ratchet.steps import completion, pinned, pulls
from ratchet.steps.listing import listed
from ratchet.steps.quarantine import releases_of
from ratchet.tables import FileFormat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratchet.domain.snapshots import StoredObject
    from ratchet.domain.windows import Span
    from ratchet.steps.context import Context
    from ratchet.steps.listing import Listed

_OF_A_PARTITION = {"malformed", "schema"}  # what breaks the partition that a file belongs to, and not the night


def snapshot(ctx: Context) -> SnapshotResult:
    """Pin the window's objects, or read the pins that this night has made before.

    Raises:
        ConditionalWritesIgnored: of two nights at once both could write the same record.
        NightSkipped: ``too_few_partitions``.
        DataRejected: ``incomplete``, ``missing_object``, ``stale``, ``changed``, ``bad_key``, ``unmatched``, ``corrupt``,
            ``snapshot_gone``, or what reading a new object found.
    """
    ctx.services.store.probe()
    before = _pinned(ctx)
    mine = before.get(ctx.night.request.cutoff)
    if mine is not None and not ctx.night.request.repin:
        made = _own(ctx, mine)
        ctx.say(f"pinned before: {made.digest[:12]}")
        return _result(ctx, made, _newest(ctx, before, apart=True), reused=True)
    previous = _newest(ctx, before)
    made = _make(ctx, previous)
    _refuse_thin(ctx, made)
    key, manifest = layout.snapshot(ctx.pipeline.name, made.digest), made.model_dump_json(indent=1).encode()
    try:
        ctx.services.store.create(key, manifest)
    except AlreadyExists:  # the same bytes, but they may lie under other version ids by now
        ctx.services.store.put(key, manifest)
    return _result(ctx, made, previous, reused=False)


def pinned_before(ctx: Context) -> bool:
    """Say whether this night reads a snapshot that it has made before, whatever lies in the store now."""
    return not ctx.night.request.repin and ctx.night.request.cutoff in _pinned(ctx)


def accept(ctx: Context) -> None:
    """Note that this night reads its snapshot, so that running it again reads the same.

    Only once a model has been trained on it: a night that was rejected looks at the lake afresh when it is run again.
    """
    request = ctx.night.request
    assert ctx.night.snapshot
    if not (request.dry_run or ctx.pipeline.segment):  # which reads what its pipeline's night has noted
        ctx.services.store.put(
            layout.pinned(ctx.pipeline.name, ctx.pipeline.scope, request.cutoff),
            ctx.night.snapshot.digest.encode(),
            "text/plain",
        )


def load(ctx: Context) -> Snapshot:
    """Read this night's snapshot."""
    assert ctx.night.snapshot
    return pinned.load(ctx.services, ctx.pipeline.name, ctx.night.snapshot.digest)


def file_format(table: Table) -> FileFormat:
    """Return how a table's files are written."""
    return FileFormat(
        format=table.format, columns=table.columns, null_values=table.null_values, delimiter=table.delimiter
    )


def date_column(table: Table) -> str | None:
    """Return the column that dates the rows, where the key does not."""
    return table.partition.column if isinstance(table.partition, ByColumn) else None


def _pinned(ctx: Context) -> dict[date, str]:
    """Return the digests' places of the nights up to this one that have a snapshot, by cutoff."""
    notes = {
        date.fromisoformat(stored.uri.rpartition("/")[2].removesuffix(".json")): stored.uri
        for stored in ctx.services.store.list(layout.pins(ctx.pipeline.name, ctx.pipeline.scope))
    }
    return {day: note for day, note in sorted(notes.items()) if day <= ctx.night.request.cutoff}


def _newest(ctx: Context, notes: dict[date, str], *, apart: bool = False) -> Snapshot | None:
    """Return the newest of these snapshots that is still there; ``apart`` from this night's own."""
    for day in sorted(notes, reverse=True):
        if apart and day == ctx.night.request.cutoff:
            continue
        with suppress(ObjectNotFound):  # without it more is read anew, and less can be told of what has changed
            return _noted(ctx, notes[day])
    return None


def _own(ctx: Context, note: str) -> Snapshot:
    try:
        return _noted(ctx, note)
    except ObjectNotFound as exc:
        raise DataRejected(
            "snapshot_gone",
            f"{exc}; it is what this night has read. Restore it from the store's versions, or {pulls.REPIN}",
        ) from exc


def _noted(ctx: Context, note: str) -> Snapshot:
    return pinned.load(ctx.services, ctx.pipeline.name, ctx.services.store.get(note).decode())


def _make(ctx: Context, previous: Snapshot | None) -> Snapshot:
    cutoff, now = ctx.night.request.cutoff, datetime.now(UTC)
    tables, left_out = {}, []
    for name, (table, span) in ctx.pipeline.spec.reads(cutoff).items():
        made = listed(ctx, name, table, span)
        whole = completion.complete(ctx, made, now)
        pins = list(_pins(ctx, made, whole, previous))
        whole.check(pins)
        tables[name] = tuple(sorted(pins, key=lambda pin: (str(pin.day or ""), pin.uri)))
        without = [*made.left_out, *([f"{whole.left_out} that no manifest names"] if whole.left_out else [])]
        left_out += [f"{name}: {what}" for what in without]
        ctx.say(f"{name}: {len(pins)} objects in {span}" + (f"; left out: {', '.join(without)}" if without else ""))
    given = tuple(releases_of(ctx, tables))
    return Snapshot(pipeline=ctx.pipeline.name, cutoff=cutoff, window=ctx.windows.whole, tables=tables, releases=given)


def _pins(ctx: Context, made: Listed, whole: completion.Complete, previous: Snapshot | None) -> Iterator[Pin]:
    known = {
        (pin.uri, pin.etag, pin.version): pin for pins in (previous.tables.values() if previous else ()) for pin in pins
    }
    new = []
    for landing in made.landings:
        for stored in landing.objects:
            if not whole.reads(stored):
                continue
            pin = known.get((stored.uri, stored.etag, stored.version))
            if pin is None or pin.problem:
                new.append((stored, landing.day))
            elif _within(made.span, pin):
                yield pin if pin.modified else pin.model_copy(update={"modified": stored.modified})
    yield from (pin for pin in _pulled(ctx, made, new) if _within(made.span, pin))


def _pulled(ctx: Context, made: Listed, new: Sequence[tuple[StoredObject, date | None]]) -> Iterator[Pin]:
    """Bring objects here that no night has read yet, and say what they hold."""
    fetched = pulls.pull(ctx.services.store, [stored for stored, _ in new])
    for (stored, day), (path, sha256) in zip(new, fetched, strict=True):
        key = stored.uri.removeprefix("s3://").partition("/")[2]
        facts = {**stored.model_dump(), "sha256": sha256, "day": day}
        try:
            _, profile = ctx.services.engine.load(path, sha256, key, file_format(made.table), date_column(made.table))
        except DataRejected as exc:
            if made.name != "rows" or exc.reason not in _OF_A_PARTITION:
                raise
            yield Pin(**facts, rows=0, problem=str(exc))  # it breaks its partition, which validate decides on
        else:
            facts |= {"columns": tuple(profile.columns.items()), "empty": profile.empty}
            yield Pin(**facts, rows=profile.rows, days=profile.days)


def _within(span: Span, pin: Pin) -> bool:
    """Say whether a file is wanted; not one of whose rows' own days none is in the span."""
    return pin.days is None or any(day in span for day in pin.days)


def _refuse_thin(ctx: Context, made: Snapshot) -> None:
    """Skip or reject a night that has too little, or too old, data."""
    window, cutoff = ctx.pipeline.spec.window, ctx.night.request.cutoff
    days = _days(made)
    where = ctx.pipeline.spec.source.uri
    if len(days) < window.min_partitions:
        there = (
            f"{len(days)} days of data under {where} in {made.window}, window.min_partitions is {window.min_partitions}"
        )
        _refuse_untold(made, there)
        raise NightSkipped("too_few_partitions", there)
    newest = max(days)
    if window.max_age_days is not None and (made.window.last - newest).days > window.max_age_days:
        raise DataRejected(
            "stale",
            f"the newest partition under {where} is of {newest}, window.max_age_days allows {window.max_age_days} before {made.window.last}",
        )
    for name, table in ctx.pipeline.spec.source.tables.items():
        if not made.tables[name]:
            span = ctx.pipeline.spec.side_span(table, cutoff)
            raise DataRejected(
                "incomplete",
                f"side table {name} has no object under {table.uri} in {span}; land it, then run the night again",
            )


def _refuse_untold(made: Snapshot, there: str) -> None:
    """Reject a night that may lack nothing but the days of files that cannot be read: waiting would not mend these."""
    untold = [pin for pin in made.tables["rows"] if pin.problem and pin.day is None]
    if untold:
        reason, _, why = str(untold[0].problem).partition(": ")
        more = f" (likewise {len(untold) - 1} more)" if len(untold) > 1 else ""
        raise DataRejected(reason, f"{why}{more}. Without what cannot be read there are {there}")


def _days(made: Snapshot) -> set[date]:
    days = set(made.days)
    for pin in made.tables["rows"]:
        days.update(day for day in pin.days or () if day in made.window)
    return days


def _result(ctx: Context, made: Snapshot, previous: Snapshot | None, *, reused: bool) -> SnapshotResult:
    pins = [pin for pins in made.tables.values() for pin in pins]
    return SnapshotResult(
        digest=made.digest,
        partitions=len(_days(made)),
        objects=len(pins),
        bytes=sum(pin.size for pin in pins),
        rows=sum(pin.rows for pin in made.tables["rows"]),
        difference=pinned.changes(ctx.services, previous, made),
        reused=reused,
    )
