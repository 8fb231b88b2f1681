"""Great Expectations on DuckDB: what GX's SQL engine lacks for that dialect.

Three things. The engine closes its connection before it reads the rows, which DuckDB does not survive: ours keeps one open.
Types of columns are looked for in PostgreSQL's catalogue; and regular expressions and LIKE are not written for the dialect.
Both are here, by GX's own way to add a metric. A regular expression finds a match anywhere in the text, as on pandas, and
takes linear time (RE2), so none can hang a night.

GX may not be imported at module level, so the classes are made on first use.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from ratchet.adapters.duck_sql import connect, literals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

BATCH = "batch"
_COPIED = 64 << 20  # bytes of Parquet that are read once into a table; larger batches stay a view


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


@lru_cache(maxsize=1)
def backend() -> Backend:
    """Import GX and make the classes."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import sqlalchemy as sa  # noqa: PLC0415
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.core.batch import Batch
    from great_expectations.execution_engine import PandasExecutionEngine, SqlAlchemyExecutionEngine
    from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData
    from great_expectations.expectations import registry
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.validator.metric_configuration import MetricConfiguration
    from great_expectations.validator.validator import Validator

    class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):  # type: ignore[misc]  # GX is untyped
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
            if kept is None:
                return super().execute_query(query)
            super().execute_query(kept)
            return super().execute_query(sa.text("SELECT 1 WHERE false"))

        @contextmanager
        def get_connection(self) -> Iterator[Any]:
            yield self._connection

        def close(self) -> None:
            """Leave the connection open: the session owns it, and GX closes engines when they are collected."""

    class QuietValidator(Validator):  # type: ignore[misc]  # GX is untyped
        """GX's validator without progress bars."""

        def _determine_progress_bars(self) -> bool:
            return False

    def on_duckdb(session: Session, table: str = BATCH, keep: Callable[[Any], Any] | None = None) -> Any:
        engine = DuckDBExecutionEngine(session, table, keep)
        data = SqlAlchemyBatchData(execution_engine=engine, table_name=table, create_temp_table=False)
        return QuietValidator(execution_engine=engine, batches=[Batch(data=data)])

    def on_pandas(frame: Any) -> Any:
        return QuietValidator(execution_engine=PandasExecutionEngine(), batches=[Batch(data=frame)])

    # Results carry what went wrong; GX's log would repeat it at length, with the values that it met.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    _add_types(DuckDBExecutionEngine)
    _add_patterns(DuckDBExecutionEngine)
    _add_uniqueness(DuckDBExecutionEngine)
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
        self.connection = engine.connect()

    def hold(self, files: Sequence[Path]) -> tuple[int, dict[str, int]]:
        """Make Parquet files the batch; return its rows and, by column, how many values are not null."""
        self.rollback()  # what the batch before left open
        kind = "TABLE" if sum(file.stat().st_size for file in files) <= _COPIED else "VIEW"
        for (old,) in self.duck.execute(
            f"SELECT table_type FROM information_schema.tables WHERE table_name = '{BATCH}'"
        ).fetchall():
            self.duck.execute(f"DROP {'VIEW' if old == 'VIEW' else 'TABLE'} {BATCH}")
        source = f"read_parquet({literals(files)}, union_by_name = true, hive_partitioning = false)"
        self.duck.execute(f"CREATE {kind} {BATCH} AS SELECT * FROM {source}")
        names = [name for name, *_ in self.duck.execute(f"DESCRIBE {BATCH}").fetchall()]
        rows, *counts = self.duck.execute(f"SELECT count(*), count(COLUMNS(*)) FROM {BATCH}").fetchall()[0]
        return rows, dict(zip(names, counts, strict=True))

    def rollback(self) -> None:
        """End what a failed query has left open."""
        self.connection.rollback()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Interrupt a query that runs longer."""
        timer = threading.Timer(seconds, self.duck.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _add_types(engine: Any) -> None:
    """Tell GX the types of the batch's columns; SQLAlchemy would look for them in PostgreSQL's catalogue, in vain."""
    import sqlalchemy as sa  # noqa: PLC0415
    from great_expectations.expectations.metrics.metric_provider import metric_value
    from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

    def typed(kind: str) -> Any:
        name = re.split(r"[ (]", kind.strip('"'), maxsplit=1)[0]
        known = getattr(sa, name, None)
        made = known if isinstance(known, type) else type(name, (sa.types.UserDefinedType,), {"cache_ok": True})
        return made()

    def types(cls: Any, execution_engine: Any, **_given: Any) -> list[dict[str, Any]]:  # noqa: ARG001  GX names it
        rows = execution_engine.session.duck.execute(f"DESCRIBE {execution_engine.table}").fetchall()
        return [{"name": name, "type": typed(kind), "primary_key": False} for name, kind, *_ in rows]

    class DuckDBColumnTypes(TableMetricProvider):  # type: ignore[misc]  # GX is untyped
        metric_name = "table.column_types"
        value_keys = ("include_nested",)
        default_kwarg_values: ClassVar[dict[str, Any]] = {"include_nested": True}

        _duckdb = metric_value(engine=engine)(types)


def _add_patterns(engine: Any) -> None:
    """Write the regular expressions and LIKE patterns that GX leaves out for this dialect."""
    import sqlalchemy as sa  # noqa: PLC0415
    from great_expectations.expectations.metrics import column_map_metrics as known
    from great_expectations.expectations.metrics.map_metric_provider import (
        ColumnMapMetricProvider,
        column_condition_partial,
    )

    def condition(column: Any, given: Mapping[str, Any], *, negated: bool) -> Any:
        text = sa.cast(column, sa.VARCHAR)
        each: list[Any]
        if "like_pattern" in given or "like_pattern_list" in given:
            patterns = given.get("like_pattern_list") or [given["like_pattern"]]
            each = [text.like(pattern, escape=given.get("escape")) for pattern in patterns]
        else:
            each = [sa.func.regexp_matches(text, regex) for regex in given.get("regex_list") or [given["regex"]]]
        joined = sa.and_(*each) if given.get("match_on") == "all" else sa.or_(*each)
        return sa.not_(joined) if negated else joined

    def add(theirs: Any, *, negated: bool) -> None:
        def matches(cls: Any, column: Any, **given: Any) -> Any:  # noqa: ARG001  GX names it
            return condition(column, given, negated=negated)

        class DuckDBPattern(ColumnMapMetricProvider):  # type: ignore[misc]  # GX is untyped
            condition_metric_name = theirs.condition_metric_name
            condition_value_keys = theirs.condition_value_keys

            _duckdb = column_condition_partial(engine=engine)(matches)

    for pattern in ("Regex", "RegexList", "LikePattern", "LikePatternList"):
        add(getattr(known, f"ColumnValuesMatch{pattern}"), negated=False)
        add(getattr(known, f"ColumnValuesNotMatch{pattern}"), negated=True)


def _add_uniqueness(engine: Any) -> None:
    """Find doubled values and keys by a set of those that occur twice; GX sorts the batch by a window function.

    It also loses keys with a NULL, by a join. As on pandas, NULLs are equal here; ``ignore_row_if`` says which keys count.
    """
    import sqlalchemy as sa  # noqa: PLC0415
    from great_expectations.expectations.metrics.map_metric_provider import (
        ColumnMapMetricProvider,
        MulticolumnMapMetricProvider,
        column_condition_partial,
        is_sqlalchemy_metric_selectable,
        multicolumn_condition_partial,
    )

    def once(columns: list[Any], table: Any) -> Any:
        source = table.subquery() if isinstance(table, sa.Select) else table
        doubled = sa.select(sa.func.row(*columns)).select_from(source).group_by(*columns).having(sa.func.count() > 1)
        return sa.func.row(*columns).not_in(doubled)

    def value_once(cls: Any, column: Any, _table: Any, **_given: Any) -> Any:  # noqa: ARG001  GX names it
        return once([sa.column(column.name)], _table)

    def key_once(cls: Any, column_list: Any, _table: Any, **_given: Any) -> Any:  # noqa: ARG001  GX names it
        return once(column_list, _table)

    class DuckDBUnique(ColumnMapMetricProvider):  # type: ignore[misc]  # GX is untyped
        condition_metric_name = "column_values.unique"

        _duckdb = column_condition_partial(engine=engine)(value_once)

    class DuckDBCompoundUnique(MulticolumnMapMetricProvider):  # type: ignore[misc]  # GX is untyped
        condition_metric_name = "compound_columns.unique"
        condition_domain_keys = (
            "batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if",
        )  # fmt: skip

        _duckdb = multicolumn_condition_partial(engine=engine)(key_once)

    # GX takes a condition of these names for one that brings its own FROM.
    is_sqlalchemy_metric_selectable.SQLALCHEMY_SELECTABLE_METRICS -= {"column_values.unique", "compound_columns.unique"}
