"""The registered model as an MLflow pyfunc: raw rows in, predictions out, by the very query and booster of training.

``mlflow.pyfunc.load_model("models:/flight_delay@champion").predict({"rows": flights, "weather": weather})``, or one frame
of rows where the pipeline has no side tables. The result has one prediction per row that the query keeps, with the
position of that row in the input as its index.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ratchet.adapters.duck_frame import LARGEST
from ratchet.adapters.duck_sql import WHOLE, connect, first_line, identifier, in_order, select, without_nan
from ratchet.adapters.xgb import predict
from ratchet.domain.models import ModelSchema
from ratchet.errors import DataRejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


def _load_pyfunc(data_path: str) -> RawRowsModel:
    """MLflow calls this: ``loader_module`` in MLmodel names this module."""
    return RawRowsModel(Path(data_path))


class RawRowsModel:
    """The three files of a model, ready to score."""

    def __init__(self, folder: Path) -> None:
        self._booster = (folder / "booster.ubj").read_bytes()
        self._sql = (folder / "features.sql").read_text()
        self._schema = ModelSchema.model_validate_json((folder / "schema.json").read_bytes())

    def predict(
        self,
        model_input: pd.DataFrame | Mapping[str, pd.DataFrame],
        params: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:
        """Score raw rows.

        Args:
            model_input: the rows, or ``rows`` and the side tables by name. Each table needs ``dt``, the day of each row.
            params: what MLflow hands in; not used.

        Raises:
            DataRejected: ``schema``, when a table or column that the query reads is missing, or cannot be read as its type.
        """
        return self._scored(self.features(model_input))

    def features(self, model_input: pd.DataFrame | Mapping[str, pd.DataFrame]) -> pa.Table:
        """Run the features query over raw rows, as ``predict`` takes them; ``row_id`` is a row's place in the input.

        Raises:
            DataRejected: ``schema`` or ``non_finite``, naming table and column.
        """
        return raw_features(self._schema, self._sql, model_input)

    def _scored(self, frame: pa.Table) -> Any:
        import pandas as pd

        scores = predict(self._booster, self._schema, frame)
        index = pd.Index(frame["row_id"].to_pylist(), name="row")
        return (
            pd.DataFrame(scores, index=index, columns=list(self._schema.classes or map(str, self._schema.quantiles)))
            if scores.ndim > 1
            else pd.Series(scores, index=index, name="prediction")
        )


def raw_features(schema: ModelSchema, sql: str, given: pd.DataFrame | Mapping[str, pd.DataFrame]) -> pa.Table:
    """Run a model's features query over raw rows; ``row_id`` is a row's place in the input.

    Raises:
        DataRejected: ``schema`` or ``non_finite``, naming table and column.
    """
    import duckdb
    import pandas as pd

    tables = {"rows": given} if isinstance(given, pd.DataFrame) else dict(given)
    with connect(threads=1) as con:  # as in training: sums of floats depend on which thread met which rows
        for name, columns in schema.tables.items():
            if name not in tables:
                raise DataRejected("schema", f"table {name!r} is missing; predict takes {{'rows': …, '{name}': …}}")
            _create(con, name, tables[name], columns)
        try:
            asked = select(con, sql)
            described = [(column, kind) for column, kind, *_ in con.execute(f"DESCRIBE {asked}").fetchall()]
            frame = con.sql(in_order(asked, described)).to_arrow_table()
        except duckdb.Error as exc:
            said = first_line(exc)
            raise DataRejected("schema", f"the features query does not run over these rows: {said}") from exc
    _refuse_infinite(frame, schema)
    return frame


def _create(con: Any, name: str, given: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """Make a table of what is given, each column of the type that training has read; what is not named is left out.

    Raises:
        DataRejected: ``schema``, where a column is missing, or its values are not of that type.
    """
    table = _arrow(name, given)
    if name == "rows":
        own = [column for column in table.column_names if column != "row_id"]
        table = table.select(own).append_column("row_id", [list(range(table.num_rows))])
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        found = ", ".join(column for column in table.column_names if column != "row_id")
        raise DataRejected("schema", f"table {name!r} lacks {', '.join(missing)}; it has {found}")
    table = table.select(list(columns))
    source = f"given_{name}"
    con.register(source, table)
    _refuse_others(con, name, source, table, columns)
    shown = ", ".join(
        f"{without_nan(f'CAST({identifier(c)} AS {kind})', kind)} AS {identifier(c)}" for c, kind in columns.items()
    )
    con.execute(f"CREATE TABLE {identifier(name)} AS SELECT {shown} FROM {identifier(source)}")


def _arrow(name: str, given: pd.DataFrame) -> pa.Table:
    """Return a frame as Arrow has it: NaN, NaT and None are null, categories are their values."""
    import pandas as pd

    if not isinstance(given, pd.DataFrame):
        raise DataRejected("schema", f"table {name!r} is a {type(given).__name__}; predict takes pandas DataFrames")
    try:
        table = pa.Table.from_pandas(given, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as exc:
        column = next((str(arg) for arg in exc.args[1:]), "")
        words = f"table {name!r} cannot be read: a column holds values of several types, or comes twice. {column}"
        raise DataRejected("schema", words.strip()) from exc
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table[field.name].cast(field.type.value_type))
    return table


def _refuse_others(con: Any, name: str, source: str, table: pa.Table, columns: Mapping[str, str]) -> None:
    """Refuse values that another type would change: a text that is no number, 3.7 for a whole number, 5.0 for a text."""
    wrong = {column: words for column, kind in columns.items() if (words := _changes(table[column], column, kind))}
    if not wrong:
        return
    row, asked = identifier("ratchet.row"), []
    for column, is_one in wrong.items():
        here = f"FILTER ({identifier(column)} IS NOT NULL AND ({is_one}))"
        asked += [f"count(*) {here}", f"min({row}) {here}"]
    places = f"(SELECT *, row_number() OVER () - 1 AS {row} FROM {identifier(source)})"
    (found,) = con.execute(f"SELECT {', '.join(asked)} FROM {places}").fetchall()
    for column, rows, first in zip(wrong, found[::2], found[1::2], strict=True):
        if rows:
            given = f"{rows} of {table.num_rows} values ({table[column].type}) are no {columns[column]}, as training has read it"
            raise DataRejected("schema", f"table {name!r}, column {column}: {given}; the first is in row {first}")


def _changes(values: pa.ChunkedArray, column: str, kind: str) -> str:
    """Return SQL that is true of the values that a type would change; empty where it can change none."""
    t, found = pa.types, values.type
    number = t.is_floating(found) or t.is_decimal(found)
    if values.null_count == len(values) or (kind in {"DOUBLE", "FLOAT"} and (number or t.is_integer(found))):
        return ""
    if kind == "VARCHAR":
        texts = (t.is_string, t.is_large_string, t.is_boolean, t.is_integer)
        return "" if any(is_one(found) for is_one in texts) else "true"
    lost = f"TRY_CAST({identifier(column)} AS {kind}) IS NULL"
    value = f"TRY_CAST({identifier(column)} AS DOUBLE)"
    if kind in WHOLE and not t.is_integer(found):
        return f"{lost} OR {value} <> trunc({value})"
    if kind == "BOOLEAN" and not t.is_boolean(found):
        return f"{lost} OR {value} NOT IN (0, 1)"
    return lost


def _refuse_infinite(frame: pa.Table, schema: ModelSchema) -> None:
    """Refuse features that no training could have met."""
    for feature in schema.features:
        if feature.name in frame.column_names and pa.types.is_floating(frame[feature.name].type):
            values = frame[feature.name].to_numpy()
            beyond = np.flatnonzero(np.abs(values) > LARGEST)
            if len(beyond):
                row = frame["row_id"][int(beyond[0])].as_py()
                words = f"feature {feature.name} is infinite in {len(beyond)} rows, the first is row {row} of the input; models count in 32 bits"
                raise DataRejected("non_finite", words)
