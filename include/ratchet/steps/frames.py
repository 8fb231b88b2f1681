"""The feature frame of a snapshot: built once, kept by content, shared by score, train, evaluate and register."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

from ratchet.domain.records import Record, digest
from ratchet.domain.windows import Span
from ratchet.local_cache import full_disk_rejects, intact, remember, use
from ratchet.provenance import code_digest
from ratchet.steps.by_segment import of_segment, sorted_by
from ratchet.steps.pulls import pull_pinned
from ratchet.steps.quarantine import exclusions
from ratchet.steps.snapshot import date_column, file_format, load
from ratchet.tables import Cut, FeatureFrame, FeatureQuery, TableFile, TableFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from ratchet.domain.snapshots import Pin, Snapshot
    from ratchet.domain.source_rules import Table
    from ratchet.steps.by_segment import Parts
    from ratchet.steps.context import Context
    from ratchet.steps.quarantine import Exclusions
    from ratchet.tables import FileProfile


class _Counts(Record):
    """What a kept frame's file does not say."""

    landed: int
    unlabelled: int
    dropped: int
    columns: dict[str, dict[str, str]]
    quarantined: int = 0
    outside: int = 0


def feature_query(ctx: Context, sql: str) -> FeatureQuery:
    """Say what the features query is run over, without bringing any object here."""
    return _query(ctx, sql, {})


def feature_frame(ctx: Context, sql: str) -> FeatureFrame:
    """Run a features query over the whole snapshot, less what is in quarantine; of a segment's model, return its rows.

    The query always sees the whole window, because it may look back over an entity's past; who wants fewer days, or one
    segment, filters the result. However many segments there are, it runs once.
    """
    return _of_its_rows(ctx, sql, load(ctx).window.last)


def segmented(ctx: Context, sql: str) -> tuple[FeatureFrame, Parts]:
    """Return the feature frame of all rows in order of their segments, and where each of these lies in it."""
    frame, key = _kept(ctx, sql, load(ctx).window.last)
    file, parts = sorted_by(ctx.services.cache, frame, key, ctx.pipeline)
    return FeatureFrame.of_file(file, landed=parts.rows, unlabelled=0, dropped=0, columns=parts.columns), parts


def _of_its_rows(ctx: Context, sql: str, last: date) -> FeatureFrame:
    frame, key = _kept(ctx, sql, last)
    return of_segment(ctx.services.cache, frame, key, ctx.pipeline) if ctx.pipeline.segment else frame


def _kept(ctx: Context, sql: str, last: date) -> tuple[FeatureFrame, str]:
    """Return the frame of all rows as it was when ``last`` was the newest day, and what identifies its content."""
    snapshot, spec = load(ctx), ctx.pipeline.spec
    left_out = _left_out(ctx)
    earlier = [] if last >= snapshot.window.last else [str(last)]
    content = [
        snapshot.digest,
        left_out,
        sql,
        spec.source.model_dump(mode="json"),
        spec.target.sql,
        spec.target.group,
        code_digest(),
    ]
    key = digest([*content, *earlier])
    cache = ctx.services.cache
    folder = cache / "frames"
    table_file, counts_file = folder / f"{key}.arrow", folder / f"{key}.json"
    if use(cache, table_file, counts_file) and intact(cache, table_file) and intact(cache, counts_file):
        counts = _Counts.model_validate_json(counts_file.read_bytes())
        return FeatureFrame.of_file(table_file, **counts.model_dump()), key
    with full_disk_rejects(cache, "the feature frame"), _aside(folder, key) as aside:
        frame = ctx.services.engine.features(_query(ctx, sql, _tables(ctx, snapshot, last)), aside)
        aside.replace(table_file)
        remember(cache, table_file)
        aside.write_text(_Counts(**frame.model_dump(exclude={"table"})).model_dump_json())
        aside.replace(counts_file)
        remember(cache, counts_file)
    return frame, key


def feature_frame_through(ctx: Context, sql: str, last: date) -> FeatureFrame:
    """Run a features query as it would have been run when ``last`` was the newest day: no table shows a later one."""
    snapshot = load(ctx)
    if last >= snapshot.window.last:
        return feature_frame(ctx, sql)
    if ctx.pipeline.segment:  # the others will ask for the same day
        return _of_its_rows(ctx, sql, last)
    # The file has no name any more when this returns, and is gone when the frame is.
    with _aside(ctx.services.cache / "frames", f"through-{last}") as aside:
        return ctx.services.engine.features(_query(ctx, sql, _tables(ctx, snapshot, last)), aside)


def feature_frame_cut(ctx: Context, sql: str, day: date) -> FeatureFrame:
    """Run a features query as it would have been run on a day, where the spec tells times when half of its events had happened."""
    spec = ctx.pipeline.spec
    at = spec.validation.window.event_time
    sides = {name: side.known_at for name, side in spec.source.tables.items() if side.known_at}
    cut = Cut(day=day, times={"rows": at, **sides}) if at else None
    query = _query(ctx, sql, _tables(ctx, load(ctx), day)).model_copy(update={"cut": cut})
    with _aside(ctx.services.cache / "frames", f"cut-{day}") as aside:
        return ctx.services.engine.features(query, aside)


def of_days(frame: FeatureFrame, first: date, last: date) -> pa.Table:
    """Return the frame's rows of some days."""
    return frame.days(first, last)


@contextmanager
def _aside(folder: Path, name: str) -> Iterator[Path]:
    """Name a file to write to, which does not stay there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = folder / f".{name}-{uuid.uuid4().hex}"
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def readable(ctx: Context, table: Table, pins: Sequence[Pin], less: Exclusions | None = None) -> tuple[TableFile, ...]:
    """Bring pinned objects here, whole and verified, as Parquet.

    Args:
        ctx: whose services.
        table: how they are written.
        pins: which.
        less: rows that are left out.

    Raises:
        DataRejected: ``changed``, ``snapshot_gone`` or ``corrupt``, when the pinned bytes cannot be had any more.
    """
    return tuple(
        TableFile(path=path, day=pin.day, key=pin.key, without=less.of(pin) if less else ())
        for pin, (path, _) in zip(pins, _loaded(ctx, table, pins), strict=True)
    )


def profiles(ctx: Context, table: Table, pins: Sequence[Pin]) -> tuple[FileProfile, ...]:
    """Say what pinned objects hold.

    Raises:
        DataRejected: ``changed``, ``snapshot_gone`` or ``corrupt``, when the pinned bytes cannot be had any more.
    """
    return tuple(profile for _, profile in _loaded(ctx, table, pins))


def _loaded(ctx: Context, table: Table, pins: Sequence[Pin]) -> list[tuple[Path, FileProfile]]:
    fetched = pull_pinned(ctx.services.store, pins)
    how, column = file_format(table), date_column(table)
    return [
        ctx.services.engine.load(path, sha, pin.key, how, column)
        for pin, (path, sha) in zip(pins, fetched, strict=True)
    ]


def _tables(ctx: Context, snapshot: Snapshot, last: date) -> dict[str, TableFiles]:
    """Return the snapshot's tables up to a day, less what is in quarantine."""
    assert ctx.night.validate_
    spec, first = ctx.pipeline.spec, snapshot.window.first
    less = exclusions(ctx.services, ctx.pipeline.name, ctx.night.validate_)
    rows = [pin for pin in snapshot.tables["rows"] if pin.partition_name not in less.partitions]
    tables = {"rows": _files(ctx, spec.source, rows, Span(first=first, last=last), less)}
    for name, side in spec.source.tables.items():
        before = date.fromordinal(first.toordinal() - side.days_before)
        tables[name] = _files(ctx, side, snapshot.tables[name], Span(first=before, last=last))
    return tables


def _files(ctx: Context, table: Table, pins: Sequence[Pin], days: Span, less: Exclusions | None = None) -> TableFiles:
    files = readable(ctx, table, pins, less)
    return TableFiles(files=files, date_column=date_column(table), days=days, ignore=table.ignore)


def _query(ctx: Context, sql: str, tables: dict[str, TableFiles]) -> FeatureQuery:
    spec = ctx.pipeline.spec
    hidden, target = spec.source.unknown_at_prediction, spec.target
    return FeatureQuery(tables=tables, sql=sql, hidden=hidden, target=target.sql, group=target.group)


def _left_out(ctx: Context) -> list[list[str]]:
    """Identify what is in quarantine."""
    assert ctx.night.validate_
    whole = sorted(partition.partition for partition in ctx.night.validate_.quarantined)
    return [whole, *([rows.partition, rows.kept, *rows.releases] for rows in ctx.night.validate_.quarantined_rows)]
