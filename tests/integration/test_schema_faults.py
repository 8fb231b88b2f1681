"""Files of one table that do not agree on their columns: the odd one is named, and the night is rejected or goes on without it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from integration.lakes import DAY, FIRST, ROWS, TONIGHT, Lake, Lakes, csv, parquet, rejected, set_aside, table, unharmed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date


EARLY = FIRST + DAY  # the first day of tonight's window
MIDDLE = FIRST + 9 * DAY


# A column's type changes in one partition; a column is missing, extra, duplicated or renamed.


def renamed(rows: pa.Table, old: str, new: str) -> pa.Table:
    """Rename a column."""
    return rows.rename_columns([new if name == old else name for name in rows.column_names])


def another(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """Put other values in a column's place."""
    return rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))


SCHEMAS: dict[str, tuple[Callable[[pa.Table], pa.Table], tuple[str, ...]]] = {
    "number turns into text": (
        lambda rows: another(rows, "x", [f"{v} m" for v in rows["x"].to_pylist()]),
        ("x", "DOUBLE", "VARCHAR"),
    ),
    "text turns into number": (lambda rows: another(rows, "place", [1] * ROWS), ("place", "VARCHAR", "BIGINT")),
    "number turns into timestamp": (
        lambda rows: another(rows, "z", rows["at"].to_pylist()),
        ("z", "DOUBLE", "TIMESTAMP"),
    ),
    "number turns into list": (
        lambda rows: another(rows, "z", [[v] for v in rows["z"].to_pylist()]),
        ("z", "DOUBLE", "[]"),
    ),
    "label turns into text": (
        lambda rows: another(rows, "y", ["yes" if v else "no" for v in rows["y"].to_pylist()]),
        ("y", "BOOLEAN", "VARCHAR"),
    ),
    "timestamp turns into number": (
        lambda rows: another(rows, "at", [int(v.timestamp()) for v in rows["at"].to_pylist()]),
        ("at", "TIMESTAMP", "BIGINT"),
    ),
    "missing": (lambda rows: rows.drop_columns(["z"]), ("z",)),
    "label is missing": (lambda rows: rows.drop_columns(["y"]), ("y",)),
    "extra": (lambda rows: rows.append_column("note", pa.array(["n"] * ROWS)), ("note",)),
    "renamed": (lambda rows: renamed(rows, "z", "zed"), ("z", "zed")),
    "two swapped names": (
        lambda rows: rows.rename_columns([{"x": "place", "place": "x"}.get(n, n) for n in rows.column_names]),
        ("x",),
    ),
}


@pytest.mark.parametrize("day", [TONIGHT, EARLY], ids=["newest", "oldest"])
@pytest.mark.parametrize("what", SCHEMAS)
def test_column_of_one_partition_is_another_and_the_night_is_rejected(lake: Lake, what: str, day: date) -> None:
    """Wherever the partition stands in the window it is the odd one, and its file, its column, what was expected and found are named."""
    change, names = SCHEMAS[what]
    lake.land(day, parquet(change(table(day))))
    rejected(lake, "schema", lake.key(day), *names)


@pytest.mark.parametrize(
    ("what", "day"), [*((what, TONIGHT) for what in SCHEMAS), ("missing", EARLY), ("renamed", MIDDLE)]
)
def test_column_of_one_partition_is_another_and_the_partition_is_set_aside(lake: Lake, what: str, day: date) -> None:
    """Where the spec quarantines, the odd partition alone is left out, for the same reason in the same words."""
    change, names = SCHEMAS[what]
    lake.land(day, parquet(change(table(day))))
    set_aside(lake, lake.key(day), *names, day=day)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_column_that_occurs_twice(broken: Lakes, form: str) -> None:
    """A duplicated column is named; SQL could not tell which of the two is meant."""
    lake = broken[form]
    rows = table(TONIGHT)
    twice = pa.Table.from_arrays([*rows.columns, rows["z"]], names=[*rows.column_names, "z"])
    lake.land(data={"csv": csv, "parquet": parquet}[form](twice))
    rejected(lake, "schema", lake.key(), "z", "twice")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_columns_that_differ_in_case_alone(broken: Lakes, form: str) -> None:
    """`z` and `Z` are one name to SQL, so both are named and the partition is not read."""
    lake = broken[form]
    lake.land(data={"csv": csv, "parquet": parquet}[form](table(TONIGHT).append_column("Z", pa.array([1.0] * ROWS))))
    rejected(lake, "schema", lake.key(), "Z")


def test_whole_numbers_among_fractions_are_no_other_type(lake: Lake) -> None:
    """A day whose fractions happen to be whole, or of another precision, is as good as any."""
    lake.land(data=parquet(another(table(TONIGHT), "z", [1] * ROWS)))
    lake.land(MIDDLE, parquet(another(table(MIDDLE), "z", [Decimal("1.25")] * ROWS)))
    lake.land(EARLY, parquet(another(table(EARLY), "z", np.arange(ROWS, dtype=np.float32))))
    with unharmed(lake):
        ran = lake.dry()
    assert ran.outcome in {"promoted", "refused", "undecided"}, ran.why
    assert lake.record(ran)["validate_"]["quarantined"] == []


def test_column_without_any_value_is_of_every_type(lake: Lake) -> None:
    """A day without any value of a column that no expectation is about is read with the others."""
    lake.land(data=parquet(another(table(TONIGHT), "email", pa.nulls(ROWS))))
    with unharmed(lake):
        assert lake.dry().outcome == "promoted"
