"""Metrics of Great Expectations for DuckDB: what GX's SQL lacks for that dialect, or finds otherwise than its pandas engine does.

All are added in GX's own way. A regular expression finds a match anywhere in the text, as on pandas, and takes linear time
(RE2), so none can hang a night.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DISTINCT = "ratchet.distinct"
# Which element of a sorted column a quantile between two of them is, by the name that pandas gives the choice.
_TAKE: dict[str, Callable[[float], int]] = {"nearest": round, "lower": math.floor, "higher": math.ceil}


def add_metrics(engine: Any) -> None:
    """Add them for an engine."""
    _add_types(engine)
    _add_patterns(engine)
    _add_uniqueness(engine)
    _add_ranks(engine)


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
    Where nothing is doubled, counting tells that, and no set is made: as many distinct hashes as rows are as many keys.
    """
    import sqlalchemy as sa  # noqa: PLC0415
    from great_expectations.core.metric_domain_types import MetricDomainTypes
    from great_expectations.expectations.metrics.map_metric_provider import (
        ColumnMapMetricProvider,
        MulticolumnMapMetricProvider,
        column_condition_partial,
        is_sqlalchemy_metric_selectable,
        multicolumn_condition_partial,
    )
    from great_expectations.expectations.metrics.metric_provider import MetricProvider, metric_value
    from great_expectations.validator.metric_configuration import MetricConfiguration

    def doubled(table: Any, columns: list[Any], key: Any) -> Any:
        return sa.select(key).select_from(table).group_by(*columns).having(sa.func.count() > 1)

    def value_once(cls: Any, column: Any, _table: Any, _metrics: Any, **_given: Any) -> Any:  # noqa: ARG001  GX names it
        if _metrics[_DISTINCT]:
            return sa.true()
        name: Any = sa.column(column.name)
        return name.not_in(doubled(_table, [name], name).where(name.is_not(None)))

    def key_once(cls: Any, column_list: Any, _table: Any, _metrics: Any, **_given: Any) -> Any:  # noqa: ARG001  GX names it
        if _metrics[_DISTINCT]:
            return sa.true()
        key = sa.func.row(*column_list)
        return key.not_in(doubled(_table, column_list, key))

    def distinct(cls: Any, execution_engine: Any, metric_domain_kwargs: Any, **_given: Any) -> bool:  # noqa: ARG001
        kind = MetricDomainTypes.MULTICOLUMN if "column_list" in metric_domain_kwargs else MetricDomainTypes.COLUMN
        table, _, accessor = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=kind)
        names: list[Any] = [sa.column(name) for name in accessor.get("column_list") or [accessor["column"]]]
        key = sa.func.hash(*names) if len(names) > 1 else names[0]
        counted = sa.select(sa.func.count(key.distinct()), sa.func.count(key)).select_from(table)
        keys, rows = execution_engine.execute_query(counted).fetchone()
        return bool(keys == rows)

    def needs_count(cls: Any, /, metric: Any, **given: Any) -> Any:
        needed = super(cls, cls)._get_evaluation_dependencies(metric, **given)
        if metric.metric_name == f"{cls.condition_metric_name}.condition":
            needed[_DISTINCT] = MetricConfiguration(_DISTINCT, metric_domain_kwargs=metric.metric_domain_kwargs)
        return needed

    def record_distinct(cls: Any, column_list: Any, **_given: Any) -> Any:  # noqa: ARG001  GX names it
        # A missing value is unlike any other, as on pandas.
        return sa.and_(*(sa.func.coalesce(a != b, sa.true()) for a, b in itertools.combinations(column_list, 2)))

    class DuckDBDistinct(MetricProvider):  # type: ignore[misc]  # GX is untyped
        metric_name = _DISTINCT
        domain_keys = (
            "batch_id",
            "table",
            "column",
            "column_list",
            "row_condition",
            "condition_parser",
            "ignore_row_if",
        )

        _duckdb = metric_value(engine=engine)(distinct)

    class DuckDBUnique(ColumnMapMetricProvider):  # type: ignore[misc]  # GX is untyped
        condition_metric_name = "column_values.unique"

        _get_evaluation_dependencies = classmethod(needs_count)
        _duckdb = column_condition_partial(engine=engine)(value_once)

    class DuckDBCompoundUnique(MulticolumnMapMetricProvider):  # type: ignore[misc]  # GX is untyped
        condition_metric_name = "compound_columns.unique"
        condition_domain_keys = (
            "batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if",
        )  # fmt: skip

        _get_evaluation_dependencies = classmethod(needs_count)
        _duckdb = multicolumn_condition_partial(engine=engine)(key_once)

    class DuckDBDistinctWithinRecord(MulticolumnMapMetricProvider):  # type: ignore[misc]  # GX is untyped
        condition_metric_name = "select_column_values.unique.within_record"
        condition_domain_keys = DuckDBCompoundUnique.condition_domain_keys

        _duckdb = multicolumn_condition_partial(engine=engine)(record_distinct)

    # GX takes a condition of these names for one that brings its own FROM.
    is_sqlalchemy_metric_selectable.SQLALCHEMY_SELECTABLE_METRICS -= {"column_values.unique", "compound_columns.unique"}


def _add_ranks(engine: Any) -> None:
    """Median, quantiles and quartiles: the elements that pandas takes, found without sorting the batch."""
    import sqlalchemy as sa  # noqa: PLC0415
    from great_expectations.core.metric_domain_types import MetricDomainTypes
    from great_expectations.expectations.metrics.column_aggregate_metric_provider import ColumnAggregateMetricProvider
    from great_expectations.expectations.metrics.column_aggregate_metrics.column_outlier_statistics import (
        OutlierStatistics,
    )
    from great_expectations.expectations.metrics.metric_provider import metric_value

    def ask(engine: Any, domain: Any, *asked: Any) -> Any:
        table, _, accessor = engine.get_compute_domain(domain, domain_type=MetricDomainTypes.COLUMN)
        column: Any = sa.column(accessor["column"])
        return engine.execute_query(sa.select(*(one(column) for one in asked)).select_from(table)).fetchone()

    def median(cls: Any, execution_engine: Any, metric_domain_kwargs: Any, **_given: Any) -> Any:  # noqa: ARG001
        return ask(execution_engine, metric_domain_kwargs, sa.func.median)[0]

    def quantiles(
        cls: Any,  # noqa: ARG001  GX names it
        execution_engine: Any,
        metric_domain_kwargs: Any,
        metric_value_kwargs: Any,
        **_given: Any,
    ) -> Any:
        wanted, how = metric_value_kwargs["quantiles"], metric_value_kwargs.get("allow_relative_error") or "nearest"
        (count,) = ask(execution_engine, metric_domain_kwargs, sa.func.count)
        if not count:
            return [math.nan] * len(wanted)
        if how == "linear":
            return list(ask(execution_engine, metric_domain_kwargs, *(at(sa.func.quantile_cont, q) for q in wanted)))
        places = [_TAKE[how]((count - 1) * q) for q in wanted]
        return list(
            ask(execution_engine, metric_domain_kwargs, *(at(sa.func.quantile_disc, (k + 0.5) / count) for k in places))
        )

    def at(function: Any, share: float) -> Any:
        return lambda column: function(column, sa.literal_column(repr(float(share))))

    def outliers(
        cls: Any,  # noqa: ARG001  GX names it
        execution_engine: Any,
        metric_domain_kwargs: Any,
        metric_value_kwargs: Any,
        **_given: Any,
    ) -> Any:
        if metric_value_kwargs["method"] == "std":
            mean, spread = ask(execution_engine, metric_domain_kwargs, sa.func.avg, sa.func.stddev_samp)
            return OutlierStatistics.symmetric(_number(mean), _number(spread))
        ends = ask(
            execution_engine, metric_domain_kwargs, at(sa.func.quantile_cont, 0.25), at(sa.func.quantile_cont, 0.75)
        )
        low, high = _number(ends[0]), _number(ends[1])
        return OutlierStatistics(low, high, None if low is None or high is None else high - low)

    class DuckDBMedian(ColumnAggregateMetricProvider):  # type: ignore[misc]  # GX is untyped
        metric_name = "column.median"

        _duckdb = metric_value(engine=engine)(median)

    class DuckDBQuantiles(ColumnAggregateMetricProvider):  # type: ignore[misc]  # GX is untyped
        metric_name = "column.quantile_values"
        value_keys = ("quantiles", "allow_relative_error")

        _duckdb = metric_value(engine=engine)(quantiles)

    class DuckDBOutliers(ColumnAggregateMetricProvider):  # type: ignore[misc]  # GX is untyped
        metric_name = "column.outlier_statistics"
        value_keys = ("method",)
        filter_column_isnull = True

        _duckdb = metric_value(engine=engine)(outliers)


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
