"""The registered model as an MLflow pyfunc: raw rows in, predictions out, by the very query and booster of training.

``mlflow.pyfunc.load_model("models:/flight_delay@champion").predict({"rows": flights, "weather": weather})``, or one frame
of rows where the pipeline has no side tables. The result has one prediction per row that the query keeps, with the
position of that row in the input as its index.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratchet.adapters.duck_sql import connect, identifier, select
from ratchet.adapters.xgb import predict
from ratchet.domain.models import ModelSchema
from ratchet.errors import DataRejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import pyarrow as pa


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
        """Run the features query over raw rows, as ``predict`` takes them; ``row_id`` is a row's place in the input."""
        import duckdb
        import pandas as pd

        tables = {"rows": model_input} if isinstance(model_input, pd.DataFrame) else dict(model_input)
        with connect() as con:
            for name, columns in self._schema.tables.items():
                if name not in tables:
                    raise DataRejected("schema", f"table {name!r} is missing; predict takes {{'rows': …, '{name}': …}}")
                given = tables[name].assign(row_id=range(len(tables[name]))) if name == "rows" else tables[name]
                missing = [c for c in columns if c not in given.columns]
                if missing:
                    found = ", ".join(map(str, tables[name].columns))
                    raise DataRejected("schema", f"table {name!r} lacks {', '.join(missing)}; it has {found}")
                con.register(f"given_{name}", given)
                casts = ", ".join(f"CAST({identifier(c)} AS {kind}) AS {identifier(c)}" for c, kind in columns.items())
                con.execute(f"CREATE TABLE {identifier(name)} AS SELECT {casts} FROM {identifier(f'given_{name}')}")
            try:
                frame = con.sql(f"SELECT * FROM ({select(con, self._sql)}\n) ORDER BY row_id").to_arrow_table()
            except duckdb.Error as exc:
                raise DataRejected("schema", f"the features query does not run over these rows: {exc}") from exc
        return frame

    def _scored(self, frame: pa.Table) -> Any:
        import pandas as pd

        scores = predict(self._booster, self._schema, frame)
        index = pd.Index(frame["row_id"].to_pylist(), name="row")
        return (
            pd.DataFrame(scores, index=index, columns=list(self._schema.classes))
            if scores.ndim > 1
            else pd.Series(scores, index=index, name="prediction")
        )
