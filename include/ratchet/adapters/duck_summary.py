"""What a partition is compared with others by: one pass over a readable file gives counts by day, and hashes of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.adapters.duck_files import day_of
from ratchet.adapters.duck_sql import NotOneSelect, expression, identifier, lacks_room, literal
from ratchet.domain.summaries import ALL, FileSummary, Labels, PartSummary, Sketch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from ratchet.tables import SummaryPlan, TableFile

_ROWS = 1024  # of a day and file, that are sampled where there are many more
_CLASSES = 1000  # more are no classes
_SHOWN = 5  # rows that a message names
_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"}


def summarise(con: Any, file: TableFile, plan: SummaryPlan) -> FileSummary:
    """Summarise one file, day by day.

    Args:
        con: a connection on one thread, so that sums are rounded the same way every time.
        file: the file.
        plan: what is asked of it.

    Raises:
        duckdb.Error: the file cannot be read.
    """
    columns = _open(con, file, plan)
    missing = ", ".join(f"count(*) FILTER ({_missing(identifier(name), kind)})" for name, kind in columns.items())
    counts = con.execute(
        f"SELECT dt, count(*){', ' if missing else ''}{missing} FROM _part GROUP BY dt ORDER BY dt"
    ).fetchall()
    ahead = _ahead(con, columns)
    labels = _labels(con, plan)
    future = _future(con, columns, plan)
    sketches = _sketches(con, columns, plan, sum(count for _, count, *_ in counts) / max(len(counts), 1))
    days = tuple(
        PartSummary(
            day=day,
            rows=rows,
            missing=dict(zip(columns, found, strict=True)),
            ahead=ahead.get(day, {}),
            labels=labels.get(day) if labels is not None else None,
            future=future[day][0] if future is not None else None,
            future_rows=future[day][1] if future is not None else (),
            sketch=sketches.get(day, Sketch.of(ALL, [], [])) if sketches is not None else None,
        )
        for day, rows, *found in counts
    )
    return FileSummary(days=days)


def _open(con: Any, file: TableFile, plan: SummaryPlan) -> dict[str, str]:
    """Make the view ``_part``, the file as the features query would know it, and return the source's columns."""
    table = (
        f"read_parquet({literal(file.path)}, hive_partitioning = false, can_have_nan = true, file_row_number = true)"
    )
    found = {
        name: kind
        for name, kind, *_ in con.execute(f"DESCRIBE SELECT * EXCLUDE (file_row_number) FROM {table}").fetchall()
    }
    day = day_of(plan.date_column, found, file.key) if plan.date_column else f"DATE '{file.day}'"
    hidden = {"dt", "row_id", *(name.lower() for name in plan.ignore)}
    columns = {name: kind for name, kind in found.items() if name.lower() not in hidden}
    shown = ", ".join(identifier(name) for name in columns)
    left_out = f" WHERE file_row_number NOT IN ({', '.join(map(str, file.without))})" if file.without else ""
    con.execute(
        f"CREATE OR REPLACE TEMP VIEW _part AS SELECT file_row_number AS row_id, {day} AS dt{', ' if shown else ''}{shown} "
        f"FROM {table}{left_out}"
    )
    return columns


def _missing(column: str, kind: str) -> str:
    """Return when a value says nothing."""
    if kind == "VARCHAR":
        return f"{column} IS NULL OR trim({column}) = ''"
    return f"{column} IS NULL OR isnan({column})" if kind in {"FLOAT", "DOUBLE"} else f"{column} IS NULL"


def _labels(con: Any, plan: SummaryPlan) -> dict[date, Labels] | None:
    """Return the labels by day; None where this file alone does not tell them, of which the features query has more to say."""
    import duckdb

    try:
        target = expression(con, plan.target)
        if plan.regression:
            numbers = f"SELECT dt, CAST({target} AS DOUBLE) AS t FROM _part"
            sums = con.execute(
                f"SELECT dt, count(*) - count(t), fsum(t) FILTER (isfinite(t)) FROM ({numbers}) GROUP BY dt"
            ).fetchall()
            return {day: Labels(unlabelled=none, total=total or 0.0) for day, none, total in sums}
        counts = con.execute(
            f"SELECT dt, CAST({target} AS VARCHAR) AS t, count(*) FROM _part GROUP BY dt, t ORDER BY dt, t"
        ).fetchall()
    except (NotOneSelect, duckdb.Error) as exc:
        if lacks_room(exc):
            raise
        return None
    classes: dict[date, dict[str | None, int]] = {}
    for day, name, count in counts:
        classes.setdefault(day, {})[name] = count
    if any(len(found) > _CLASSES for found in classes.values()):
        return None
    return {
        day: Labels(unlabelled=found.get(None, 0), classes={n: c for n, c in found.items() if n is not None})
        for day, found in classes.items()
    }


def _ahead(con: Any, columns: Mapping[str, str]) -> dict[date, dict[str, int]]:
    """Count, of each column that holds times, those that no time zone can explain: after the day that follows the row's."""
    times = [name for name, kind in columns.items() if kind == "DATE" or kind.startswith("TIMESTAMP")]
    if not times:
        return {}
    after = "TRY_CAST({} AS TIMESTAMP) >= dt + INTERVAL 2 DAY"
    counts = ", ".join(f"count(*) FILTER ({after.format(identifier(name))})" for name in times)
    found = con.execute(f"SELECT dt, {counts} FROM _part GROUP BY dt").fetchall()
    return {day: dict(zip(times, numbers, strict=True)) for day, *numbers in found}


def _future(con: Any, columns: Mapping[str, str], plan: SummaryPlan) -> dict[date, tuple[int, tuple[int, ...]]] | None:
    """Count the rows of each day whose event lies after it; None where a value of the column tells no time."""
    name = next((n for n in columns if plan.event_time and n.lower() == plan.event_time.lower()), None)
    if name is None or not (columns[name] in {"DATE", "VARCHAR"} or columns[name].startswith("TIMESTAMP")):
        return None
    at = f"TRY_CAST({identifier(name)} AS TIMESTAMP)"
    after = f"{at} >= dt + INTERVAL 1 DAY + to_seconds({round(plan.event_slack_hours * 3600)})"
    untold = f"{at} IS NULL AND NOT ({_missing(identifier(name), columns[name])})"
    found = con.execute(
        f"SELECT dt, count(*) FILTER ({after}), min(row_id + 1, {_SHOWN}) FILTER ({after}), count(*) FILTER ({untold}) "
        "FROM _part GROUP BY dt"
    ).fetchall()
    if any(count for *_, count in found):
        return None
    return {day: (count, tuple(sorted(rows or ()))) for day, count, rows, _ in found}


def _sketches(con: Any, columns: Mapping[str, str], plan: SummaryPlan, rows: float) -> dict[date, Sketch] | None:
    """Sample the rows of each day by their hashes; None where a column of the key is missing."""
    by_name = {name.lower(): name for name in columns}
    wanted = sorted(name.lower() for name in plan.key) or sorted(by_name)
    if not wanted or not set(wanted) <= by_name.keys():
        return None
    values = ", ".join(_canonical(by_name[name], columns[by_name[name]]) for name in wanted)
    named = " AND ".join(f"{identifier(by_name[name])} IS NOT NULL" for name in wanted) if plan.key else "true"
    bound = ALL if rows <= 2 * _ROWS else int(ALL * (_ROWS / rows))
    below = f" WHERE h < {bound}::UBIGINT" if bound < ALL else ""
    # Hashed twice: of one column alone, the hash is not as even as a sample needs.
    found = con.execute(
        f"SELECT dt, h, count(*) AS n FROM (SELECT dt, hash(hash({values})) AS h FROM _part WHERE {named}){below} "
        "GROUP BY dt, h ORDER BY dt, h"
    ).fetchnumpy()
    days = np.asarray(found["dt"]).astype("datetime64[D]")
    made = {}
    for day in np.unique(days):
        here = days == day
        made[day.item()] = Sketch.of(bound, found["h"][here], found["n"][here])
    return made


def _canonical(name: str, kind: str) -> str:
    """Return a column so that the same value has the same hash, although one file holds it in fewer bytes than another."""
    column = identifier(name)
    if kind in _WHOLE:
        return f"CAST({column} AS BIGINT)"
    return f"CAST({column} AS DOUBLE)" if kind == "FLOAT" else column
