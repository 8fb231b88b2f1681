"""DuckDB: figures of each partition of a table, from which a suite is drafted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratchet.adapters.duck_sql import connect, identifier, literals
from ratchet.domain.suite_draft import ColumnFigures, PartitionFigures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from pathlib import Path

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip
_FEW = 30  # distinct texts that are listed
_WIDEST = 8  # columns of a key


class DuckHistory:
    """Fulfils ``steps.draft.History``."""

    def __init__(self) -> None:
        self._con = connect()

    def figures(self, name: str, day: date | None, files: Sequence[Path]) -> PartitionFigures:
        """Look at one partition."""
        types = self._hold(files)
        asked, places = ["count(*)"], {}
        for column, kind in types.items():
            places[column] = len(asked)
            asked += _asked(identifier(column), kind)
        rows, *found = self._con.execute(f"SELECT {', '.join(asked)} FROM batch").fetchall()[0]
        columns = {column: _figures(types[column], found[place - 1 : place + 4]) for column, place in places.items()}
        return PartitionFigures(name=name, weekday=day.weekday() if day else None, rows=rows, columns=columns)

    def extend(self, files: Sequence[Path], key: Sequence[str], columns: Sequence[str]) -> tuple[str, ...] | None:
        """Add the most telling columns to a key, one at a time, until it names each row of a partition."""
        self._hold(files)
        rows = self._con.execute("SELECT count(*) FROM batch").fetchall()[0][0]
        chosen = list(key)
        left = [column for column in columns if column not in chosen]
        while left and len(chosen) < _WIDEST:
            asked = [f"count(DISTINCT row({', '.join(identifier(c) for c in [*chosen, column])}))" for column in left]
            counts = self._con.execute(f"SELECT {', '.join(asked)} FROM batch").fetchall()[0]
            best = max(range(len(left)), key=lambda i: (counts[i], -i))
            chosen.append(left.pop(best))
            if counts[best] == rows:
                return tuple(chosen)
        return None

    def names_rows(self, files: Sequence[Path], key: Sequence[str]) -> bool:
        """Say whether no two rows of a partition share these columns."""
        self._hold(files)
        rows: int = self._con.execute("SELECT count(*) FROM batch").fetchall()[0][0]
        return self._distinct(key) == rows

    def _distinct(self, key: Sequence[str]) -> int:
        listed = ", ".join(identifier(c) for c in key)
        return int(self._con.execute(f"SELECT count(DISTINCT row({listed})) FROM batch").fetchall()[0][0])

    def _hold(self, files: Sequence[Path]) -> dict[str, str]:
        source = (
            f"read_parquet({literals(files)}, union_by_name = true, hive_partitioning = false, can_have_nan = true)"
        )
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE batch AS SELECT * FROM {source}")
        return {name: kind for name, kind, *_ in self._con.execute("DESCRIBE batch").fetchall()}


def _is_number(kind: str) -> bool:
    return kind.split("(", maxsplit=1)[0] in _NUMBERS


def _asked(column: str, kind: str) -> list[str]:
    """Return five figures: values, distinct ones, and three that fit the type."""
    if _is_number(kind):
        value = f"CASE WHEN isfinite(CAST({column} AS DOUBLE)) THEN CAST({column} AS DOUBLE) END"
        known = f"CASE WHEN NOT isnan(CAST({column} AS DOUBLE)) THEN {column} END"
        return [f"count({known})", f"count(DISTINCT {known})", f"min({value})", f"max({value})", f"avg({value})"]
    if kind == "VARCHAR":
        few = f"CASE WHEN count(DISTINCT {column}) <= {_FEW} THEN list_sort(list_distinct(list({column}))) END"
        return [f"count({column})", f"count(DISTINCT {column})", f"min(length({column}))", f"max(length({column}))", few]  # fmt: skip
    return [f"count({column})", f"count(DISTINCT {column})", "NULL", "NULL", "NULL"]


def _figures(kind: str, found: Sequence[Any]) -> ColumnFigures:
    values, distinct, *three = found
    if _is_number(kind):
        names = dict(zip(("least", "most", "mean"), three, strict=True))
    elif kind == "VARCHAR":
        names = dict(zip(("shortest", "longest", "categories"), three, strict=True))
    else:
        names = {}
    return ColumnFigures(type=kind, values=values, distinct=distinct, **names)
