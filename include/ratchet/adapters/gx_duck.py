"""Great Expectations on DuckDB: GX's SQL engine over one connection, and the batch that it looks at.

GX's engine closes its connection before it reads the rows, which DuckDB does not survive: ours keeps one open. A query that fails
would leave its transaction aborted and take all later ones along: ours ends it. A comparison of columns that is NULL, because a
value is missing, does not hold: GX's SQL counts such a row as good, its pandas engine and ours as unexpected.

A NaN is a missing value, as on pandas; somebody's own SQL sees it as it is.

GX may not be imported at module level, so the classes are made on first use.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ratchet.adapters.duck_sql import connect, identifier, literals
from ratchet.adapters.gx_metrics import add_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

BATCH = "batch"
VALUES = "batch_values"
_AGAIN = 0.1  # seconds between interrupts
_COPIED = 20_000_000  # values that are read once into a table; a larger batch stays a view, and out of memory


@dataclass(frozen=True)
class Backend:
    """The parts of GX that we build on."""

    on_duckdb: Callable[..., Any]  # a validator of the batch that a session holds
    on_pandas: Callable[[Any], Any]  # a validator of a data frame
    configuration: Callable[..., Any]
    metric: Callable[..., Any]
    implementation: Callable[[str], Any]
    names: Callable[[], list[str]]
    suite_result: Callable[..., Any]
    result: Callable[..., Any]


def _engine_class(theirs: Any) -> Any:
    import sqlalchemy as sa  # noqa: PLC0415

    class DuckDBExecutionEngine(theirs):  # type: ignore[misc]  # GX is untyped
        """GX's SQL engine on one connection that stays open.

        Args:
            session: owns it.
            table: holds the batch.
            keep: turns a query into one that keeps what it finds in DuckDB, and GX is told that nothing was found; or returns
                None to leave it as it is.
        """

        def __init__(self, session: Session, table: str, keep: Callable[[Any], Any] | None) -> None:
            super().__init__(engine=session.connection.engine, create_temp_table=False)
            self._connection = session.connection
            self._keep = keep
            self.session = session
            self.table = table

        def execute_query(self, query: Any) -> Any:
            kept = self._keep(query) if self._keep else None
            try:
                if kept is None:
                    return super().execute_query(query)
                super().execute_query(kept)
                return super().execute_query(sa.text("SELECT 1 WHERE false"))
            except Exception:
                self._connection.rollback()
                raise

        def get_domain_records(self, domain_kwargs: Any) -> Any:
            found = super().get_domain_records(domain_kwargs)
            return found.subquery() if isinstance(found, sa.Select) else found  # some metrics select from it as it is

        def resolve_metrics(self, *args: Any, **given: Any) -> Any:
            found = super().resolve_metrics(*args, **given)
            return {key: _strict(sa, value) if _is_comparison(key[0]) else value for key, value in found.items()}

        @contextmanager
        def get_connection(self) -> Iterator[Any]:
            yield self._connection

        def close(self) -> None:
            """Leave the connection open: the session owns it, and GX closes engines when they are collected."""

    return DuckDBExecutionEngine


def _is_comparison(metric: str) -> bool:
    return metric.startswith(("column_pair_values.", "multicolumn_")) and metric.endswith(".condition")


def _strict(sa: Any, condition: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let a row be unexpected where it cannot be told whether it is."""
    unexpected, *domain = condition
    return (sa.func.coalesce(unexpected, sa.true()), *domain)


@lru_cache(maxsize=1)
def backend() -> Backend:
    """Import GX and make the classes."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.core.batch import Batch
    from great_expectations.execution_engine import PandasExecutionEngine, SqlAlchemyExecutionEngine
    from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData
    from great_expectations.expectations import registry
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.validator.metric_configuration import MetricConfiguration
    from great_expectations.validator.validator import Validator

    engine_class = _engine_class(SqlAlchemyExecutionEngine)

    class QuietValidator(Validator):  # type: ignore[misc]  # GX is untyped
        """GX's validator without progress bars."""

        def _determine_progress_bars(self) -> bool:
            return False

    def on_duckdb(session: Session, table: str = BATCH, keep: Callable[[Any], Any] | None = None) -> Any:
        engine = engine_class(session, table, keep)
        data = SqlAlchemyBatchData(execution_engine=engine, table_name=table, create_temp_table=False)
        return QuietValidator(execution_engine=engine, batches=[Batch(data=data)])

    def on_pandas(frame: Any) -> Any:
        return QuietValidator(execution_engine=PandasExecutionEngine(), batches=[Batch(data=frame)])

    # Results carry what went wrong; GX's log would repeat it at length, with the values that it met.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    add_metrics(engine_class)
    return Backend(
        on_duckdb=on_duckdb,
        on_pandas=on_pandas,
        configuration=ExpectationConfiguration,
        metric=MetricConfiguration,
        implementation=registry.get_expectation_impl,
        names=registry.list_registered_expectation_implementations,
        suite_result=ExpectationSuiteValidationResult,
        result=ExpectationValidationResult,
    )


class Session:
    """One DuckDB that holds one batch after the other, with SQLAlchemy's connection to it.

    Args:
        spill: folder for what does not fit into memory; without one, nothing is put aside.
        memory_limit: as DuckDB reads it ("4GB"); by default most of the machine's.
    """

    def __init__(self, spill: Path | None = None, memory_limit: str | None = None) -> None:
        import sqlalchemy as sa  # noqa: PLC0415
        from duckdb_engine import ConnectionWrapper  # noqa: PLC0415

        self.duck = connect(spill, memory_limit)
        self.source = ""  # what the batch is read from
        self.nans: list[str] = []  # columns that have one
        engine = sa.create_engine(
            "duckdb:///:memory:", creator=lambda: ConnectionWrapper(self.duck), poolclass=sa.StaticPool
        )
        # SQLAlchemy quotes PostgreSQL's keywords; a column may be called by one that only DuckDB has, such as "at".
        keywords = self.duck.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()
        engine.dialect.identifier_preparer.reserved_words = {word for (word,) in keywords}
        self.connection = engine.connect()

    def hold(self, files: Sequence[Path], wanted: str) -> tuple[int, dict[str, int]]:
        """Make Parquet files the batch.

        Args:
            files: the batch's.
            wanted: a text in which the columns are named that anything will be asked about.

        Returns:
            The batch's rows and, by such a column, how many values are not missing.
        """
        self.rollback()  # what the batch before left open
        for name, kind in self.duck.execute("SELECT table_name, table_type FROM information_schema.tables").fetchall():
            self.duck.execute(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} IF EXISTS {name}")
        self.source = (
            f"read_parquet({literals(files)}, union_by_name = true, hive_partitioning = false, can_have_nan = true)"
        )
        kind = "TABLE" if self._values(files) <= _COPIED else "VIEW"
        self.duck.execute(f"CREATE {kind} {BATCH} AS SELECT * FROM {self.source}")
        types = {name: kind for name, kind, *_ in self.duck.execute(f"DESCRIBE {BATCH}").fetchall()}
        named = [name for name in types if json.dumps(name)[1:-1].lower() in wanted.lower()]
        floats = [name for name in named if types[name] in ("FLOAT", "DOUBLE")]
        counted = [f"count({identifier(name)})" for name in named]
        counted += [f"count(*) FILTER (isnan({identifier(name)}))" for name in floats]
        rows, *counts = self.duck.execute(f"SELECT {', '.join(['count(*)', *counted])} FROM {BATCH}").fetchall()[0]
        nans = dict(zip(floats, counts[len(named) :], strict=True))
        self.nans = [name for name in floats if nans[name]]
        if self.nans:
            self.duck.execute(f"CREATE VIEW {VALUES} AS SELECT {self.shown()} FROM {BATCH}")
        return rows, {name: count - nans.get(name, 0) for name, count in zip(named, counts, strict=False)}

    def _values(self, files: Sequence[Path]) -> int:
        """Count the batch's values: its file's size does not tell how large it is once it is read."""
        columns = len(self.duck.execute(f"DESCRIBE SELECT * FROM {self.source}").fetchall())
        counted = f"SELECT sum(num_rows) FROM parquet_file_metadata({literals(files)})"
        return columns * int(self.duck.execute(counted).fetchall()[0][0])

    def shown(self) -> str:
        """Return what a SELECT lists so that each NaN is NULL."""
        masked = [f"nullif({identifier(name)}, 'NaN') AS {identifier(name)}" for name in self.nans]
        return f"* REPLACE ({', '.join(masked)})" if masked else "*"

    def table(self, *, raw: bool) -> str:
        """Return the name of the batch: as it is, or with each NaN as NULL."""
        return BATCH if raw or not self.nans else VALUES

    def rollback(self) -> None:
        """End what a failed query has left open."""
        self.connection.rollback()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Interrupt a query that runs longer, and each that is begun after it."""
        over = threading.Event()

        def interrupt() -> None:
            if not over.wait(seconds):
                while not over.wait(_AGAIN):
                    self.duck.interrupt()

        watch = threading.Thread(target=interrupt, daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()  # or it would interrupt what comes next
