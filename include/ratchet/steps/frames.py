"""The feature frame of a snapshot: built once, kept by content, shared by score, train, evaluate and register."""

from __future__ import annotations

import os
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.domain.records import Record, digest
from ratchet.domain.snapshots import StoredObject
from ratchet.domain.windows import Span
from ratchet.errors import ArtifactTampered, DataRejected, ObjectChanged, ObjectNotFound
from ratchet.ports import FeatureFrame, FeatureQuery, TableFile, TableFiles
from ratchet.provenance import code_digest
from ratchet.steps.snapshot import date_column, file_format, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.snapshots import Pin, Snapshot
    from ratchet.spec import Table
    from ratchet.steps.context import Context


class _Counts(Record):
    """What a kept frame's file does not say."""

    landed: int
    unlabelled: int
    dropped: int
    columns: dict[str, dict[str, str]]


def feature_query(ctx: Context, sql: str) -> FeatureQuery:
    """Say what the features query is run over, without bringing any object here."""
    return _query(ctx, sql, {})


def feature_frame(ctx: Context, sql: str) -> FeatureFrame:
    """Run a features query over the whole snapshot, quarantined partitions left out.

    The query always sees the whole window, because it may look back over an entity's past; who wants fewer days filters
    the result.
    """
    snapshot, left_out = load(ctx), _quarantined(ctx)
    spec = ctx.pipeline.spec
    key = digest(
        [snapshot.digest, sorted(left_out), sql, spec.source.model_dump(mode="json"), spec.target.sql, code_digest()]
    )
    folder = ctx.services.cache / "frames"
    table_file, counts_file = folder / f"{key}.parquet", folder / f"{key}.json"
    if counts_file.is_file() and table_file.is_file():
        counts = _Counts.model_validate_json(counts_file.read_bytes())
        return FeatureFrame(table=pq.read_table(table_file, memory_map=True), **counts.model_dump())
    frame = ctx.services.engine.features(_query(ctx, sql, _tables(ctx, snapshot, left_out, snapshot.window.last)))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    counts = _Counts(**frame.model_dump(exclude={"table"}))
    aside = folder / f".{key}-{os.getpid()}"
    pq.write_table(frame.table, aside)
    aside.replace(table_file)
    aside.write_text(counts.model_dump_json())
    aside.replace(counts_file)
    return frame


def feature_frame_through(ctx: Context, sql: str, last: date) -> FeatureFrame:
    """Run a features query as it would have been run when ``last`` was the newest day: no table shows a later one."""
    snapshot = load(ctx)
    if last >= snapshot.window.last:
        return feature_frame(ctx, sql)
    return ctx.services.engine.features(_query(ctx, sql, _tables(ctx, snapshot, _quarantined(ctx), last)))


def of_days(frame: FeatureFrame, first: date, last: date) -> pa.Table:
    """Return the frame's rows of some days."""
    import pyarrow.compute as pc  # noqa: PLC0415

    dt = frame.table["dt"]
    return frame.table.filter(pc.and_(pc.greater_equal(dt, first), pc.less_equal(dt, last)))


def readable(ctx: Context, table: Table, pins: Sequence[Pin]) -> tuple[TableFile, ...]:
    """Bring pinned objects here, whole and verified, as Parquet.

    Raises:
        DataRejected: ``changed`` or ``snapshot_gone``, when the pinned bytes cannot be had any more.
    """
    try:
        fetched = ctx.services.store.fetch([(_stored(pin), pin.sha256) for pin in pins])
    except ObjectNotFound as exc:
        raise DataRejected(
            "snapshot_gone",
            f"{exc}; the snapshot pins it. Restore that version, or run with --repin to take what is there now",
        ) from exc
    except (ObjectChanged, ArtifactTampered) as exc:
        raise DataRejected("changed", f"{exc}. Run with --repin to take what is there now") from exc
    how, column = file_format(table), date_column(table)
    return tuple(
        TableFile(path=ctx.services.engine.load(path, sha, pin.key, how, column)[0], day=pin.day, key=pin.key)
        for pin, (path, sha) in zip(pins, fetched, strict=True)
    )


def _tables(ctx: Context, snapshot: Snapshot, left_out: set[str], last: date) -> dict[str, TableFiles]:
    """Return the snapshot's tables up to a day, less what is in quarantine."""
    spec, first = ctx.pipeline.spec, snapshot.window.first
    rows = [p for p in snapshot.tables["rows"] if p.sha256 not in left_out]
    tables = {"rows": _files(ctx, spec.source, rows, Span(first=first, last=last))}
    for name, side in spec.source.tables.items():
        before = date.fromordinal(first.toordinal() - side.days_before)
        tables[name] = _files(ctx, side, snapshot.tables[name], Span(first=before, last=last))
    return tables


def _stored(pin: Pin) -> StoredObject:
    return StoredObject(uri=pin.uri, size=pin.size, etag=pin.etag, version=pin.version)


def _files(ctx: Context, table: Table, pins: Sequence[Pin], days: Span) -> TableFiles:
    return TableFiles(files=readable(ctx, table, pins), date_column=date_column(table), days=days)


def _query(ctx: Context, sql: str, tables: dict[str, TableFiles]) -> FeatureQuery:
    spec = ctx.pipeline.spec
    return FeatureQuery(tables=tables, sql=sql, hidden=spec.source.unknown_at_prediction, target=spec.target.sql)


def _quarantined(ctx: Context) -> set[str]:
    assert ctx.night.validate_
    return {sha for partition in ctx.night.validate_.quarantined for sha in partition.objects}
