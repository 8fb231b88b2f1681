"""The rows of a partition that break its suite, named one by one and kept beside their reasons."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ratchet.domain import layout
from ratchet.steps import frames, quarantine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from ratchet.domain.quarantine import Broken
    from ratchet.domain.validation import BrokenRow
    from ratchet.steps.context import Context
    from ratchet.steps.quarantine import Partition

_OURS = ("_key", "_object", "_row", "_reasons")  # a source column of such a name gives way to ours


def named(ctx: Context, partition: Partition, found: Broken) -> Broken:
    """Name the broken rows, and keep them unless they are so many that the partition is left out as a whole.

    An expectation that no row can be named for holds against the whole partition.
    """
    services, rules = ctx.services, ctx.pipeline.spec.validation
    paths = [file.path for file in frames.readable(ctx, ctx.pipeline.spec.source, partition.pins)]
    told = services.validator.broken_rows(paths, ctx.pipeline.suite, found.positions)
    rows = _closed(partition, told)
    met = {position for positions in rows.values() for position in positions}
    reasons = dict(zip(found.positions, found.single, strict=True))
    found = found.model_copy(
        update={
            "whole": (*found.whole, *(reason for i, reason in reasons.items() if i not in met)),
            "single": tuple(reason for i, reason in reasons.items() if i in met),
            "positions": tuple(i for i in reasons if i in met),
            "least": len(rows),
        }
    )
    if len(rows) > rules.max_broken_rows * partition.rows or not rows:
        return found
    key = layout.quarantined_rows(ctx.pipeline.name, quarantine.suite_key(ctx), partition.content)
    what = {i: reason.what for i, reason in reasons.items()}
    services.store.put(key, _parquet(partition, paths, rows, what), "application/vnd.apache.parquet")
    return found.model_copy(update={"broken": len(rows), "kept": key})


def _closed(partition: Partition, told: Sequence[BrokenRow]) -> dict[tuple[int, int], tuple[int, ...]]:
    """Return the broken rows, from 0, by file and number; of files with the same bytes the same rows are broken."""
    by_content: dict[tuple[str, int], set[int]] = {}
    for row in told:
        by_content.setdefault((partition.pins[row.file].sha256, row.row), set()).update(row.expectations)
    return {
        (i, row): tuple(sorted(positions))
        for i, pin in enumerate(partition.pins)
        for (sha256, row), positions in sorted(by_content.items())
        if sha256 == pin.sha256
    }


def _parquet(
    partition: Partition,
    paths: Sequence[Path],
    rows: Mapping[tuple[int, int], tuple[int, ...]],
    what: Mapping[int, str],
) -> bytes:
    """Return the broken rows with where they stand, their reasons, and all their columns."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    parts = []
    for i, (pin, path) in enumerate(zip(partition.pins, paths, strict=True)):
        mine = sorted(row for file, row in rows if file == i)
        if not mine:
            continue
        source = _rows(path, mine)
        source = source.drop_columns([name for name in source.column_names if name in _OURS])
        ours = {
            "_key": pa.array([pin.key] * len(mine), pa.string()),
            "_object": pa.array([pin.sha256] * len(mine), pa.string()),
            "_row": pa.array([row + 1 for row in mine], pa.int64()),
            "_reasons": pa.array([[what[n] for n in rows[i, row]] for row in mine], pa.list_(pa.string())),
        }
        parts.append(pa.table({**ours, **{name: source[name] for name in source.column_names}}))
    out = io.BytesIO()
    pq.write_table(_joined(parts), out)
    return out.getvalue()


def _rows(path: Path, wanted: Sequence[int]) -> pa.Table:
    """Read some rows of a Parquet file, a row group at a time."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    parts, first = [], 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            mine = [row - first for row in wanted if first <= row < first + count]
            if mine:
                parts.append(file.read_row_group(group).take(pa.array(mine, pa.int64())))
            first += count
    return pa.concat_tables(parts)


def _joined(parts: Sequence[pa.Table]) -> pa.Table:
    """Put the rows of several files together; columns whose types do not fit become text."""
    import pyarrow as pa  # noqa: PLC0415

    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException:
        kinds: dict[str, set[Any]] = {}
        for part in parts:
            for field in part.schema:
                kinds.setdefault(field.name, set()).add(field.type)
        return pa.concat_tables(
            [
                part.cast(
                    pa.schema([pa.field(f.name, pa.string()) if len(kinds[f.name]) > 1 else f for f in part.schema])
                )
                for part in parts
            ],
            promote_options="default",
        )
