"""snapshot: pin the exact object versions that this night reads."""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.domain.night import SnapshotResult
from ratchet.domain.snapshots import Pin, Snapshot, difference
from ratchet.errors import AlreadyExists, ArtifactTampered, DataRejected, NightSkipped, ObjectChanged, ObjectNotFound
from ratchet.ports import FileFormat
from ratchet.spec import ByColumn, ByPath, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratchet.domain.snapshots import StoredObject
    from ratchet.domain.windows import Span
    from ratchet.steps.context import Context

_ENDINGS = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".csv.gz"),
    "jsonl": (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz"),
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def snapshot(ctx: Context) -> SnapshotResult:
    """Pin the window's objects, or read the pins that this night has made before.

    Raises:
        ConditionalWritesIgnored: of two nights at once both could write the same record.
        NightSkipped: ``too_few_partitions``.
        DataRejected: ``stale``, ``incomplete``, ``changed``, ``bad_key``, ``unmatched``, or what reading a new object found.
    """
    ctx.services.store.probe()
    previous = _pinned(ctx)
    if previous is not None and previous.cutoff == ctx.night.request.cutoff and not ctx.night.request.repin:
        ctx.say(f"pinned before: {previous.digest[:12]}")
        return _result(previous, previous, reused=True)
    made = _make(ctx, previous)
    _refuse_thin(ctx, made)
    key, manifest = layout.snapshot(ctx.pipeline.name, made.digest), made.model_dump_json(indent=1).encode()
    try:
        ctx.services.store.create(key, manifest)
    except AlreadyExists:  # the same bytes, but they may lie under other version ids by now
        ctx.services.store.put(key, manifest)
    return _result(made, previous, reused=False)


def accept(ctx: Context) -> None:
    """Note that this night reads its snapshot, so that running it again reads the same.

    Only once a model has been trained on it: a night that was rejected looks at the lake afresh when it is run again.
    """
    request = ctx.night.request
    assert ctx.night.snapshot
    if not request.dry_run:
        ctx.services.store.put(
            layout.pinned(ctx.pipeline.name, ctx.pipeline.scope, request.cutoff),
            ctx.night.snapshot.digest.encode(),
            "text/plain",
        )


def load(ctx: Context) -> Snapshot:
    """Read this night's snapshot."""
    assert ctx.night.snapshot
    return _load(ctx, ctx.night.snapshot.digest)


def _load(ctx: Context, digest: str) -> Snapshot:
    key = layout.snapshot(ctx.pipeline.name, digest)
    found = Snapshot.model_validate_json(ctx.services.store.get(key))
    if found.digest != digest:
        raise ArtifactTampered(f"snapshot manifest {key}", digest, found.digest)
    return found


def file_format(table: Table) -> FileFormat:
    """Return how a table's files are written."""
    return FileFormat(
        format=table.format, columns=table.columns, null_values=table.null_values, delimiter=table.delimiter
    )


def date_column(table: Table) -> str | None:
    """Return the column that dates the rows, where the key does not."""
    return table.partition.column if isinstance(table.partition, ByColumn) else None


def _pinned(ctx: Context) -> Snapshot | None:
    """Return this night's snapshot if it has one, else the newest of an earlier cutoff."""
    cutoff = ctx.night.request.cutoff
    found = [
        day
        for stored in ctx.services.store.list(layout.pins(ctx.pipeline.name, ctx.pipeline.scope))
        if (day := date.fromisoformat(stored.uri.rpartition("/")[2].removesuffix(".json"))) <= cutoff
    ]
    if not found:
        return None
    note = layout.pinned(ctx.pipeline.name, ctx.pipeline.scope, max(found))
    return _load(ctx, ctx.services.store.get(note).decode())


def _make(ctx: Context, previous: Snapshot | None) -> Snapshot:
    spec, cutoff = ctx.pipeline.spec, ctx.night.request.cutoff
    window = ctx.windows.whole
    wanted: dict[str, tuple[Table, Span]] = {"rows": (spec.source, window)}
    wanted.update({name: (table, spec.side_span(table, cutoff)) for name, table in spec.source.tables.items()})
    known = {
        (pin.uri, pin.etag, pin.version): pin for pins in (previous.tables.values() if previous else ()) for pin in pins
    }
    tables = {}
    for name, (table, span) in wanted.items():
        objects = _objects(ctx, name, table, span)
        tables[name] = tuple(
            sorted(_pins(ctx, table, span, objects, known), key=lambda pin: (str(pin.day or ""), pin.uri))
        )
    return Snapshot(pipeline=spec.name, cutoff=cutoff, window=window, tables=tables)


def _objects(ctx: Context, name: str, table: Table, span: Span) -> list[tuple[StoredObject, date | None]]:
    """List the table's objects with their days, as far as the key tells that they are wanted.

    Raises:
        DataRejected: ``bad_key``; ``unmatched`` when there are objects, and the spec fits none of them.
    """
    below = len(table.uri.removeprefix("s3://").partition("/")[2] if table.uri.startswith("s3://") else table.uri)
    endings = _ENDINGS[table.format]
    wanted, matched = [], 0
    other: list[str] = []  # objects of another ending
    undated: list[str] = []  # objects whose key does not fit the pattern
    for stored in ctx.services.store.list(table.uri, versions=True):
        key = stored.uri.removeprefix("s3://").partition("/")[2]
        file = key.rpartition("/")[2]
        if not file or file.startswith(("_", ".")) or "/_temporary/" in key:
            continue  # folder markers, temporary files and what writers leave beside their data
        if not file.lower().endswith(endings):
            other.append(stored.uri)
            continue
        if _CONTROL.search(key) or ".." in key.split("/"):
            raise DataRejected(
                "bad_key", f"object {stored.uri!r} has a key with control characters or '..'; rename or remove it"
            )
        day = None
        if isinstance(table.partition, ByPath):
            match = _match(table.partition.pattern, key[below:])
            if not match:
                undated.append(stored.uri)
                continue
            day = _day(match, stored.uri)
        matched += 1
        if day is None or day in span:
            wanted.append((stored, day))
    if not matched and (other or undated):
        raise DataRejected("unmatched", _unmatched(name, table, other, undated))
    without = [f"{len(found)} {why}" for found, why in ((other, "of another ending"), (undated, "unmatched")) if found]
    ctx.say(f"{name}: {len(wanted)} objects in {span}" + (f"; left out: {', '.join(without)}" if without else ""))
    return wanted


def _unmatched(name: str, table: Table, other: list[str], undated: list[str]) -> str:
    """Say that the spec fits no object of a table, and what to change."""
    field = "source" if name == "rows" else f"source.tables.{name}"
    count = len(other) + len(undated)
    said = [
        f"none of the {count} objects under {table.uri} is read"
        if count > 1
        else f"{table.uri} has one object, which is not read"
    ]
    remedies = []
    if undated:
        assert isinstance(table.partition, ByPath)
        said.append(
            f"{len(undated)} without {field}.partition.pattern {table.partition.pattern!r} in the key below it, such as {undated[0]!r}"
        )
        remedies.append(
            "write the pattern as the keys have it, or use {by: column, column: …} where only the rows are dated"
        )
    if other:
        said.append(
            f"{len(other)} not ending in {', '.join(_ENDINGS[table.format])} ({field}.format: {table.format}), such as {other[0]!r}"
        )
        remedies.append(f"set {field}.format to what the files are, or land them with such an ending")
    return "; ".join(said) + ". To mend it, " + "; ".join(remedies)


def _pins(
    ctx: Context,
    table: Table,
    span: Span,
    objects: list[tuple[StoredObject, date | None]],
    known: Mapping[tuple[str, str, str | None], Pin],
) -> Iterator[Pin]:
    new = [(stored, day) for stored, day in objects if (stored.uri, stored.etag, stored.version) not in known]
    yield from _within(
        span, (known[s.uri, s.etag, s.version] for s, _ in objects if (s.uri, s.etag, s.version) in known)
    )
    try:
        fetched = ctx.services.store.fetch([(stored, None) for stored, _ in new])
    except (ObjectChanged, ObjectNotFound) as exc:
        raise DataRejected(
            "changed", f"{exc}; it was overwritten or deleted while it was read, run the night again"
        ) from exc
    made = []
    for (stored, day), (path, sha256) in zip(new, fetched, strict=True):
        key = stored.uri.removeprefix("s3://").partition("/")[2]
        _, profile = ctx.services.engine.load(path, sha256, key, file_format(table), date_column(table))
        made.append(Pin(**stored.model_dump(), sha256=sha256, day=day, rows=profile.rows, days=profile.days))
    yield from _within(span, made)


def _within(span: Span, pins: Iterator[Pin] | list[Pin]) -> Iterator[Pin]:
    """Leave out files of whose rows' own days none is in the span."""
    return (pin for pin in pins if pin.days is None or any(day in span for day in pin.days))


def _match(pattern: str, below: str) -> re.Match[str] | None:
    """Find the day in the part of a key below the prefix: where a name begins if it can be had there, else anywhere."""
    text = _regex(pattern)
    return re.search(f"(?<=/){text}", f"/{below}") or re.search(text, f"/{below}")


@cache
def _regex(pattern: str) -> str:
    """Return a pattern as a regular expression; a part that stands twice must be the same both times."""
    parts = {"{yyyy}": ("y", 4), "{mm}": ("m", 2), "{dd}": ("d", 2)}
    seen = set()
    text = ""
    for piece in re.split(r"(\{yyyy\}|\{mm\}|\{dd\})", pattern.replace("{date}", "{yyyy}-{mm}-{dd}")):
        if piece not in parts:
            text += re.escape(piece)
            continue
        name, digits = parts[piece]
        text += f"(?P={name})" if name in seen else f"(?P<{name}>[0-9]{{{digits}}})"
        seen.add(name)
    before = "(?<![0-9])" if pattern.startswith("{") else ""  # no day is cut out of a longer number
    after = "(?![0-9])" if pattern.endswith("}") else ""
    return f"{before}{text}{after}"


def _day(match: re.Match[str], uri: str) -> date:
    text = "{y}-{m}-{d}".format_map(match.groupdict())
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise DataRejected(
            "bad_key", f"object {uri!r} names the day {text}, which does not exist; rename or remove it"
        ) from exc


def _refuse_thin(ctx: Context, made: Snapshot) -> None:
    """Skip or reject a night that has too little, or too old, data."""
    window, cutoff = ctx.pipeline.spec.window, ctx.night.request.cutoff
    days = _days(made)
    where = ctx.pipeline.spec.source.uri
    if len(days) < window.min_partitions:
        raise NightSkipped(
            "too_few_partitions",
            f"{len(days)} days of data under {where} in {made.window}, window.min_partitions is {window.min_partitions}",
        )
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


def _days(made: Snapshot) -> set[date]:
    days = set(made.days)
    for pin in made.tables["rows"]:
        days.update(day for day in pin.days or () if day in made.window)
    return days


def _result(made: Snapshot, previous: Snapshot | None, *, reused: bool) -> SnapshotResult:
    pins = [pin for pins in made.tables.values() for pin in pins]
    return SnapshotResult(
        digest=made.digest,
        partitions=len(_days(made)),
        objects=len(pins),
        bytes=sum(pin.size for pin in pins),
        rows=sum(pin.rows for pin in made.tables["rows"]),
        difference=difference(previous, made),
        reused=reused,
    )
