"""The features of a window beside their labels, written batch by batch, so that memory does not grow with the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ratchet.errors import DataRejected, Problem, SpecInvalid
from ratchet.tables import LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LARGEST = float(np.finfo(np.float32).max)  # learners count in 32 bits: beyond this all is infinite to them


class Labels:
    """The rows that can have features: their ``row_id``, ``dt``, ``target`` and, of a ranking, list.

    Args:
        table: those columns, in order of ``row_id``.
    """

    def __init__(self, table: pa.Table) -> None:
        self._ids = table["row_id"].to_numpy()
        self._names = table.column_names[1:]
        self._columns = [_whole(table[name]) for name in self._names]

    @property
    def fields(self) -> list[pa.Field]:
        """The columns that stand before the features."""
        told = zip(self._names, self._columns, strict=True)
        return [pa.field("row_id", pa.int64()), *(pa.field(name, column.type) for name, column in told)]

    def beside(self, features: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """Return features with the labels of their rows, without rows that have none.

        Raises:
            SpecInvalid: a row is none of these.
        """
        ids = features.column(0).to_numpy()
        where = np.searchsorted(self._ids, ids)
        if not len(self._ids) or (self._ids[np.minimum(where, len(self._ids) - 1)] != ids).any():
            raise _refused("the query returns a row_id that `rows` does not have; hand it through unchanged")
        told = [column.take(pa.array(where)) for column in self._columns]
        made = pa.RecordBatch.from_arrays([features.column(0), *told, *features.columns[1:]], schema=schema)
        return made.filter(pc.is_valid(made["target"])) if made["target"].null_count else made


def written(
    features: pa.RecordBatchReader, labels: Labels, out: Path | None, place: Callable[[int], str]
) -> tuple[int, pa.Table | None]:
    """Write the labelled rows of a query's result to an Arrow file, or return them; in either case, count them.

    Args:
        features: ``row_id`` and the features, in an order in which a ``row_id`` that comes back follows itself.
        labels: of all rows.
        out: the file.
        place: says in words where the row of a ``row_id`` stands.

    Raises:
        SpecInvalid: a row comes back more than once, has no ``row_id``, or one that ``rows`` does not have.
        DataRejected: ``non_finite``, naming the features, how many rows, and the first.
    """
    schema = pa.schema([*labels.fields, *list(features.schema)[1:]])
    finite = _Finite(schema)
    batches = (finite.watched(labels.beside(batch, schema)) for batch in _each_once(features))
    if out is None:
        table = pa.Table.from_batches(batches, schema)
        finite.refuse(place)
        return table.num_rows, table
    rows = 0
    with pa.OSFile(str(out), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    finite.refuse(place)
    return rows, None


class _Finite:
    """Counts the values that no learner can count with, while batches pass.

    Args:
        schema: of the batches.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._names = [field.name for field in schema if field.name not in LABELS and pa.types.is_floating(field.type)]
        self._met: dict[str, tuple[int, int]] = {}  # rows, and the first

    def watched(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Look at a batch, and hand it on."""
        for name in self._names:
            bad = pc.greater(pc.abs(batch[name]), LARGEST).fill_null(False)
            count = bad.true_count
            if count:
                before, first = self._met.get(name, (0, batch.column(0)[pc.index(bad, True).as_py()].as_py()))
                self._met[name] = before + count, first
        return batch

    def refuse(self, place: Callable[[int], str]) -> None:
        """Refuse what has passed, if a feature was infinite.

        Raises:
            DataRejected: ``non_finite``.
        """
        told = [
            f"feature {name} is infinite in {count} rows, the first is {place(row)}"
            for name, (count, row) in self._met.items()
        ]
        if told:
            raise DataRejected(
                "non_finite",
                f"{'; '.join(told)}. What is beyond ±{LARGEST:.1e} counts as infinite, because models count in 32 bits; mend the data, or "
                "turn it into NULL in the query",
            )


def _each_once(features: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Hand batches on in which no row follows itself, over all of them."""
    last = np.iinfo(np.int64).min
    for batch in features:
        if not batch.num_rows:
            continue
        if batch.column(0).null_count:
            raise _refused("the query must return each row once; a row_id is NULL")
        ids = batch.column(0).to_numpy()
        again = np.flatnonzero(ids == np.append(last, ids[:-1]))
        if len(again):
            row = int(ids[again[0]])
            raise _refused(
                f"the query must return each row once; row_id {row} comes back {_times(row, last, ids, features)} times: "
                "a join multiplies rows; make the side that it joins unique"
            )
        last = ids[-1]
        yield batch


def _times(row: int, last: Any, ids: Any, rest: pa.RecordBatchReader) -> int:
    """Count a row that has come back: at the end of the batch before, in this one, and where that ends with it, in the next."""
    count = int(last == row) + int((ids == row).sum())
    while ids[-1] == row and (batch := next(iter(rest), None)) is not None and batch.num_rows:
        ids = batch.column(0).fill_null(-1).to_numpy()
        count += int((ids == row).sum())
    return count


def _refused(why: str) -> SpecInvalid:
    return SpecInvalid([Problem("features", "", why)])


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
