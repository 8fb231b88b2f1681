"""Columns of a frame as counts by bin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ratchet.domain.profiles import CATEGORIES, Bins, number_bins, number_codes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from ratchet.tables import Floats

    Ints = np.ndarray[Any, np.dtype[np.int64]]

_LOOKED_AT = 200_000  # rows; deciles of more come out the same
_CHUNK = 1 << 20  # rows that are turned into bins at once, so that memory does not grow with the window


def bins_of(column: pa.ChunkedArray, at_least: int = 1, *, fenced: bool = False) -> Bins:
    """Return the bins of a column: deciles or values of numbers, the most frequent texts that so many rows have.

    With ``fenced``, numbers far beyond all of the column's have bins of their own.
    """
    if not _is_text(column.type):
        values = numbers(column)
        step = -(-len(values) // _LOOKED_AT) or 1
        some = values[::step]
        if fenced and step > 1:
            ends = [fold(values) for fold in (np.fmin.reduce, np.fmax.reduce)]
            some = np.append(some, ends)
        return number_bins(some, fenced=fenced)
    counts = pc.value_counts(column.cast(pa.string()).drop_null())
    met = sorted(
        zip(counts.field(1).to_pylist(), counts.field(0).to_pylist(), strict=True), key=lambda c: (-c[0], c[1])
    )
    return Bins(kind="category", values=tuple(text for count, text in met[:CATEGORIES] if count >= at_least))


def counts(column: pa.ChunkedArray, bins: Bins) -> Floats:
    """Count a column's rows by bin."""
    total = np.zeros(bins.size)
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        total += np.bincount(codes(chunk, bins), minlength=bins.size)
    return total


def by_day(table: pa.Table, columns: dict[str, tuple[str, Bins]]) -> dict[date, dict[str, tuple[int, ...]]]:
    """Count by day and bin; ``columns`` says for each subject which column it is, and its bins."""
    found: dict[date, dict[str, Ints]] = {}
    for part in _parts(table):
        days, which = np.unique(part["dt"].to_numpy().astype("datetime64[D]"), return_inverse=True)
        for subject, (column, bins) in columns.items():
            flat = np.bincount(which * bins.size + codes(part[column], bins), minlength=len(days) * bins.size)
            for day, row in zip(days.tolist(), flat.reshape(len(days), bins.size), strict=True):
                here = found.setdefault(day, {})
                here[subject] = here[subject] + row if subject in here else row
    return {day: {s: tuple(row.tolist()) for s, row in here.items()} for day, here in sorted(found.items())}


def codes(column: pa.ChunkedArray | pa.Array, bins: Bins) -> Ints:
    """Return the bin of each row."""
    if bins.kind == "number":
        if _is_text(column.type):  # the query gives another type than it gave in training: nothing is comparable
            return np.full(len(column), bins.size - 1, dtype=np.int64)
        return number_codes(bins, numbers(column))
    texts = column.cast(pa.string())
    known = pc.fill_null(pc.index_in(texts, value_set=pa.array(bins.values, pa.string())), len(bins.values))
    return np.where(_plain(texts.is_null()), bins.size - 1, _plain(known)).astype(np.int64)


def numbers(column: pa.ChunkedArray | pa.Array) -> Floats:
    """Return a column's numbers, NaN where there is none."""
    found: Floats = _plain(column.cast(pa.float64(), safe=False))
    return found


def _plain(column: pa.ChunkedArray | pa.Array) -> Any:
    return column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, _CHUNK):
        yield table.slice(start, _CHUNK)
