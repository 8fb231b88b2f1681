"""Metrics of one's own: SQL aggregates over predictions, in a database that can read nothing but them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.adapters.duck_sql import NotOneSelect, connect, expression, first_line, identifier, unrepeatable
from ratchet.errors import Problem, SpecInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from ratchet.tables import Floats

_NUMBERS = ("DECIMAL", "DOUBLE", "FLOAT", "BOOLEAN", "HUGEINT", "UHUGEINT", "BIGINT", "UBIGINT", "INTEGER", "UINTEGER",
            "SMALLINT", "USMALLINT", "TINYINT", "UTINYINT")  # fmt: skip
_ROWS, _DRAWS = "predictions", "ratchet.draws"
_DRAW, _DAY = identifier("ratchet.draw"), identifier("ratchet.day")


def aggregates(
    rows: pa.Table, expressions: Mapping[str, str], weights: Floats, memory_limit: str | None = None
) -> dict[str, Floats]:
    """Compute each aggregate under each reweighing; NaN where it is NULL.

    Args:
        rows: with ``dt``; their other columns are what the expressions see.
        expressions: SQL by name.
        weights: of shape (reweighings, days in order): how often each day's rows count, in whole numbers.
        memory_limit: as DuckDB reads it.

    Raises:
        SpecInvalid: an expression is no aggregate of these columns that gives a number.
    """
    import duckdb
    import pyarrow as pa  # noqa: PLC0415

    days, where = np.unique(rows["dt"].to_numpy().astype("datetime64[D]"), return_inverse=True)
    counts, same = np.unique(
        weights.astype(np.int64), axis=0, return_inverse=True
    )  # few days are drawn alike again and again
    draw, day = np.nonzero(counts)
    times = counts[draw, day]
    drawn = pa.table({"draw": np.repeat(draw, times).astype(np.int32), "day": np.repeat(day, times).astype(np.int32)})
    with connect(memory_limit=memory_limit, threads=1) as con:
        _fill(con, _ROWS, rows.append_column("ratchet.day", pa.array(where.astype(np.int32))))
        _fill(con, _DRAWS, drawn.rename_columns(["ratchet.draw", "ratchet.day"]))
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
        made = {name: _aggregate(con, name, sql) for name, sql in expressions.items()}
        sql = ", ".join(f"CAST({text} AS DOUBLE)" for text in made.values())
        joined = f"{identifier(_DRAWS)} JOIN {_ROWS} USING ({_DAY})"
        try:
            found = con.execute(f"SELECT {_DRAW}, {sql} FROM {joined} GROUP BY {_DRAW}").fetchnumpy()
        except duckdb.Error as exc:
            raise _refused(", ".join(made), f"could not be computed over the predictions: {first_line(exc)}") from exc
    columns = list(found.values())
    result = {name: np.full(len(counts), np.nan) for name in made}
    for name, column in zip(made, columns[1:], strict=True):
        result[name][columns[0]] = np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan)
    assert len(days) == counts.shape[1], "a weight for each day"
    return {name: values[same.ravel()] for name, values in result.items()}


def _fill(con: Any, name: str, table: pa.Table) -> None:
    con.register("given", table)
    con.execute(f"CREATE TABLE {identifier(name)} AS SELECT * FROM given")
    con.unregister("given")


def _aggregate(con: Any, name: str, sql: str) -> str:
    """Return an expression once it has proved to be one aggregate over the predictions that gives a number.

    Raises:
        SpecInvalid: it is none.
    """
    import duckdb

    try:
        text = expression(con, sql)
        tree = con.execute("SELECT json_serialize_sql(?)", [f"SELECT {text}"]).fetchall()[0][0]
        if strange := _strange(json.loads(tree)):
            raise _refused(
                name, f"{strange} is not allowed here; expected an aggregate of the columns, such as avg(label)"
            )
        if clock := unrepeatable(con, f"SELECT {text}"):
            raise _refused(name, f"{', '.join(clock)} would give another value each time")
        asked = f"SELECT {text} AS found FROM {_ROWS}"
        kind = str(con.execute(f"DESCRIBE {asked}").fetchall()[0][1])
        alone = len(con.execute(f"{asked} WHERE false").fetchall()) == 1
    except (NotOneSelect, duckdb.Error) as exc:
        columns = ", ".join(row[0] for row in con.execute(f"DESCRIBE {_ROWS}").fetchall() if row[0] != "ratchet.day")
        raise _refused(name, f"{first_line(exc)}. The columns are {columns}") from exc
    if not alone:
        raise _refused(name, "gives a value for each row; expected one for all of them, such as avg(…) or sum(…)")
    if not kind.startswith(_NUMBERS):
        raise _refused(name, f"gives a {kind}; expected a number")
    return text


def _strange(tree: Any) -> str:
    """Name what an expression holds besides columns, functions and aggregates."""
    if isinstance(tree, dict):
        if tree.get("class") == "SUBQUERY":
            return "a query within the expression"
        if tree.get("class") == "WINDOW":
            return "a window function"
        tree = list(tree.values())
    if isinstance(tree, list):
        return next((found for child in tree if (found := _strange(child))), "")
    return ""


def _refused(name: str, words: str) -> SpecInvalid:
    return SpecInvalid([Problem("spec", f"evaluation.business.{name}", words)])
