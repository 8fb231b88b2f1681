"""Names the rows that break an expectation.

GX counts what is unexpected; its lists of rows are cut off, or made row by row in Python. Here the query by which GX would list
them is turned into one that notes them in a table of DuckDB, so ten million of them cost no memory here. Each is its file's
position and its own.

A failure is about single rows when all rows that it counts can be named and the expectation holds without them. That is tried,
not derived from the expectation's name: a limit, a grouping or a comparison with other rows in somebody's SQL shows by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratchet.adapters.duck_sql import identifier
from ratchet.adapters.gx_run import SQL, error_of, on_pandas, validate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ratchet.adapters.gx_duck import Backend, Session

_NAMED = {True: "batch_with_rows", False: "batch_values_with_rows"}  # with NaNs, and with NULLs for them
_REST = "batch_without_rows"
_BROKEN = "broken_rows"
_COPY = "batch_in_order"
_FILE = 1 << 32  # a row is file × this + row in the file
_TAKEN = {"file_index", "file_row_number"}  # DuckDB's; a column of such a name hides them
_ALL = 1 << 62
_SQL = "unexpected_rows_query.table"


class Rows:
    """The rows that break expectations on the batch that a session holds.

    Args:
        gx: the parts of GX.
        session: holds the batch.
        files: the batch's.
        limit_seconds: how long one expectation may take.
    """

    def __init__(self, gx: Backend, session: Session, files: Sequence[Path], limit_seconds: float) -> None:
        self._gx = gx
        self._session = session
        self._files = files
        self._limit = limit_seconds
        session.rollback()
        self._row = _number_rows(session, files)
        session.duck.execute(f"CREATE OR REPLACE TABLE {_BROKEN} (expectation INTEGER, row BIGINT)")

    def name(self, number: int, configuration: Any, count: int, *, pandas: bool) -> bool:
        """Note the rows that break an expectation; say whether they are all, and whether it holds without them.

        Args:
            number: of the expectation.
            configuration: GX's.
            count: how many rows GX has counted.
            pandas: whether it was the pandas engine that counted.
        """
        try:
            if pandas:
                return self._on_pandas(number, configuration, count)
            with self._session.limit(self._limit):
                if self._note(number, configuration, count) and self._holds_without(number, configuration):
                    return True
        except Exception:  # noqa: BLE001  whatever GX or DuckDB say: then its rows cannot be named
            self._session.rollback()
        return False

    def found(self, numbers: Sequence[int]) -> list[tuple[int, int, tuple[int, ...]]]:
        """Return file, row and the expectations that each row breaks, in order."""
        wanted = ", ".join(str(number) for number in numbers) or "NULL"
        rows = self._session.duck.execute(
            f"SELECT row // {_FILE}, row % {_FILE}, list_sort(list_distinct(list(expectation))) FROM {_BROKEN} "
            f"WHERE expectation IN ({wanted}) GROUP BY row ORDER BY row"
        ).fetchall()
        return [(file, row, tuple(broken)) for file, row, broken in rows]

    def _note(self, number: int, configuration: Any, count: int) -> bool:
        validator = self._gx.on_duckdb(self._session, _NAMED[configuration.type in SQL], self._keeper(number))
        metric = self._metric(validator, configuration)
        if metric is None:
            return False
        validator.get_metric(metric)
        self._session.connection.commit()
        return self._noted(number) == count

    def _keeper(self, number: int) -> Any:
        """Return what turns a query that lists rows into one that notes them; others, such as those for counts, it leaves."""
        import sqlalchemy as sa  # noqa: PLC0415

        broken = sa.table(_BROKEN, sa.column("expectation"), sa.column("row"))

        def keep(query: Any) -> Any:
            if isinstance(query, sa.TextClause):
                listed = f"SELECT DISTINCT {number}, {identifier(self._row)} FROM (\n{query.text}\n)"
                return sa.text(f"INSERT INTO {_BROKEN} {listed}")
            rows = query.subquery()
            if self._row not in rows.c:
                return None
            chosen = sa.select(sa.literal(number), rows.c[self._row]).distinct()
            return sa.insert(broken).from_select(["expectation", "row"], chosen)

        return keep

    def _metric(self, validator: Any, configuration: Any) -> Any:
        """Return the metric by which GX lists the rows that an expectation counts as unexpected."""
        expectation = configuration.to_domain_obj()
        needed = expectation.get_validation_dependencies(
            execution_engine=validator.execution_engine
        ).metric_configurations
        if _SQL in needed:
            return needed[_SQL]
        counted = needed.get(f"{getattr(expectation, 'map_metric', None)}.unexpected_count")
        if counted is None:
            return None
        listing = {"result_format": "COMPLETE", "unexpected_index_column_names": [self._row],
                   "partial_unexpected_count": _ALL, "exclude_unexpected_values": True}  # fmt: skip
        return self._gx.metric(
            metric_name=counted.metric_name.removesuffix("unexpected_count") + "unexpected_index_list",
            metric_domain_kwargs=counted.metric_domain_kwargs,
            metric_value_kwargs={**counted.metric_value_kwargs, "result_format": listing},
        )

    def _noted(self, number: int) -> int:
        return int(
            self._session.duck.execute(f"SELECT count(*) FROM {_BROKEN} WHERE expectation = {number}").fetchall()[0][0]
        )

    def _holds_without(self, number: int, configuration: Any) -> bool:
        self._session.rollback()
        self._session.duck.execute(
            f"CREATE OR REPLACE VIEW {_REST} AS SELECT * EXCLUDE ({identifier(self._row)}) FROM {_NAMED[configuration.type in SQL]} "
            f"WHERE {identifier(self._row)} NOT IN (SELECT row FROM {_BROKEN} WHERE expectation = {number})"
        )
        (result,) = validate(self._gx.on_duckdb(self._session, _REST), {number: configuration}).values()
        return bool(result.success) and not error_of(result)

    def _on_pandas(self, number: int, configuration: Any, count: int) -> bool:
        rows = on_pandas(self._gx, configuration, self._files, self._limit, row=self._row)["rows"]
        if rows is None or len(rows) != count:
            return False
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415

        firsts = [0]
        for file in self._files:
            firsts.append(firsts[-1] + pq.read_metadata(file).num_rows)
        noted = pa.table({"position": pa.array(rows, pa.int64())})
        starts = pa.table({"file": range(len(self._files)), "first": firsts[:-1], "next": firsts[1:]})
        self._session.duck.from_arrow(noted).create_view("positions_found", replace=True)
        self._session.duck.from_arrow(starts).create_view("files_found", replace=True)
        self._session.duck.execute(
            f"INSERT INTO {_BROKEN} SELECT {number}, file * {_FILE} + position - first FROM positions_found "
            "JOIN files_found ON position >= first AND position < next"
        )
        return True


def _number_rows(session: Session, files: Sequence[Path]) -> str:
    """Make views of the batch in which each row has its number, and return that column's name."""
    source = session.source
    columns = {name.lower() for name, *_ in session.duck.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    row = "ratchet_row"
    while row in columns:
        row += "_"
    if columns & _TAKEN:
        number, source = _counted(session, files, source), _COPY
    else:
        number = f"CAST(file_index AS BIGINT) * {_FILE} + file_row_number"
    for name, shown in ((_NAMED[True], "*"), (_NAMED[False], session.shown())):
        session.duck.execute(
            f"CREATE OR REPLACE VIEW {name} AS SELECT {number} AS {identifier(row)}, {shown} FROM {source}"
        )
    return row


def _counted(session: Session, files: Sequence[Path], source: str) -> str:
    """Return a numbered copy of the batch, for files whose columns hide DuckDB's own numbers."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    session.duck.execute(f"CREATE OR REPLACE TABLE {_COPY} AS SELECT * FROM {source}")
    parts, first = [], 0
    for i, file in enumerate(files):
        count = pq.read_metadata(file).num_rows
        parts.append(f"WHEN rowid < {first + count} THEN {i * _FILE - first} + rowid")
        first += count
    return f"(CASE {' '.join(parts)} END)"
