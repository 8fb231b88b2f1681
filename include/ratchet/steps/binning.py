"""Columns of a frame as counts by bin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ratchet.domain.profiles import CATEGORIES, Bins, number_bins, number_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from ratchet.tables import Floats

    Ints = np.ndarray[Any, np.dtype[np.int64]]

_LOOKED_AT = 200_000  # rows; deciles of more come out the same
_CHUNK = 1 << 20  # rows that are turned into bins at once, so that memory does not grow with the window


def _nothing() -> None:
    """Let rows that are in memory stay there."""


def bins_of(column: pa.ChunkedArray, at_least: int = 1, *, fenced: bool = False) -> Bins:
    """Return the bins of a column: deciles or values of numbers, the most frequent texts that so many rows have.

    With ``fenced``, numbers far beyond all of the column's have bins of their own.
    """
    if not _is_text(column.type):
        return number_bins(_some_numbers(column, with_ends=fenced), fenced=fenced)
    counts = pc.value_counts(
        column.cast(pa.string())
    )  # a text is counted where it lies: without its nulls it would be copied
    there = (
        (count, text)
        for count, text in zip(counts.field(1).to_pylist(), counts.field(0).to_pylist(), strict=True)
        if text is not None
    )
    met = sorted(there, key=lambda c: (-c[0], c[1]))
    return Bins(kind="category", values=tuple(text for count, text in met[:CATEGORIES] if count >= at_least))


def _some_numbers(column: pa.ChunkedArray, *, with_ends: bool) -> Floats:
    """Return every so manieth number of a column, and of all of them the least and the greatest if that is asked."""
    step = -(-len(column) // _LOOKED_AT) or 1
    some, ends = [np.zeros(0)], [np.zeros(0)]
    for start in range(0, len(column), _CHUNK):
        part = numbers(column.slice(start, _CHUNK))
        some.append(part[-start % step :: step])
        ends.append(np.array([np.fmin.reduce(part), np.fmax.reduce(part)]))
    if not with_ends or step == 1:
        return np.concatenate(some)
    met = np.concatenate(ends)
    return np.concatenate([*some, [np.fmin.reduce(met), np.fmax.reduce(met)]])


def counts(column: pa.ChunkedArray, bins: Bins) -> Floats:
    """Count a column's rows by bin."""
    total = np.zeros(bins.size)
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        total += np.bincount(codes(chunk, bins), minlength=bins.size)
    return total


def by_day(
    table: pa.Table, columns: dict[str, tuple[str, Bins]], forget: Callable[[], None] = _nothing
) -> dict[date, dict[str, tuple[int, ...]]]:
    """Count by day and bin.

    Args:
        table: the rows.
        columns: says for each subject which column it is, and its bins.
        forget: gives back the memory that mapped rows take, once they have been looked at.
    """
    found: dict[date, dict[str, Ints]] = {}
    for part in _parts(table):
        days, which = np.unique(part["dt"].to_numpy().astype("datetime64[D]"), return_inverse=True)
        for subject, (column, bins) in columns.items():
            flat = np.bincount(which * bins.size + codes(part[column], bins), minlength=len(days) * bins.size)
            for day, row in zip(days.tolist(), flat.reshape(len(days), bins.size), strict=True):
                here = found.setdefault(day, {})
                here[subject] = here[subject] + row if subject in here else row
        forget()
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
