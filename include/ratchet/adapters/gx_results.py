"""What Great Expectations has found, in our words and in GX's, without values of the data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from ratchet.adapters.duck_sql import first_line
from ratchet.adapters.gx_run import WITH_EXAMPLES, configuration, error_of, told
from ratchet.domain.records import digest
from ratchet.domain.validation import ExpectationResult, ValidationReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOW = "show_values"
_EXAMPLES = WITH_EXAMPLES["partial_unexpected_count"]
ABOUT_TYPES = {
    "expect_column_values_to_be_of_type",
    "expect_column_values_to_be_in_type_list",
    "expect_column_type_to_be",
}
# These look at NULLs, names or types: a column without any value does not make them idle.
_NOT_ABOUT_VALUES = ABOUT_TYPES | {
    "expect_column_values_to_not_be_null", "expect_column_values_to_be_null", "expect_column_to_exist",
    "expect_column_proportion_of_non_null_values_to_be_between",
}  # fmt: skip
_COUNTS = (
    "element_count", "missing_count", "missing_percent", "unexpected_count", "unexpected_percent", "unexpected_percent_total",
    "unexpected_percent_nonmissing",
)  # fmt: skip


@dataclass(frozen=True)
class Met:
    """What an expectation had before it."""

    rows: int
    values: Mapping[str, int]  # by column, those that are not null
    probe: Any  # GX's result for the row condition, where there is one

    def count(self, expectation: Mapping[str, Any], details: Mapping[str, Any]) -> int:
        """Return how many rows, or values where it is about values, the expectation looked at."""
        column = expectation.get("kwargs", {}).get("column")
        about_rows = expectation["type"] in _NOT_ABOUT_VALUES
        if self.probe is not None and not error_of(self.probe):
            probed = self.probe.result
            if "element_count" not in probed:
                return int(probed["observed_value"])
            return int(probed["element_count"]) - (0 if about_rows else int(probed.get("unexpected_count") or 0))
        if column is not None and not about_rows:
            return self.values.get(column, 0)
        if "element_count" in details and "missing_count" in details:
            return int(details["element_count"] - details["missing_count"])
        return self.rows


def probe(gx: Any, expectation: Mapping[str, Any], number: str) -> Any:
    """Return an expectation that counts what another one's row condition lets through."""
    kwargs = expectation.get("kwargs", {})
    if not kwargs.get("row_condition"):
        return None
    condition = {name: kwargs[name] for name in ("row_condition", "condition_parser") if name in kwargs}
    if "column" in kwargs:
        counted = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": kwargs["column"], **condition}}
    else:
        counted = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 0, **condition}}
    return configuration(gx, counted, number)


def outcome(expectation: Mapping[str, Any], result: Any, met: Met, *, rowwise: bool) -> tuple[ExpectationResult, Any]:
    """Return one outcome in our words, and in GX's."""
    kwargs = expectation.get("kwargs", {})
    error = error_of(result)
    details = {} if isinstance(result, str) else _bounded(result.result or {}, expectation)
    unexpected = details.get("unexpected_count")
    percent = details.get("unexpected_percent")
    if expectation["type"] == "unexpected_rows_expectation" and not error:
        unexpected = details["observed_value"]
        percent = 100.0 * unexpected / met.rows if met.rows else None
    on_pandas = not isinstance(result, str) and (result.meta or {}).get("engine") == "pandas"
    observed = "an error" if error else _observed(expectation, details, unexpected, success=result.success)
    ours = ExpectationResult(
        type=expectation["type"],
        column=_column(kwargs),
        severity=expectation.get("severity", "critical"),
        success=not error and bool(result.success),
        observed=told(observed + (" (by the pandas engine: DuckDB cannot run it)" if on_pandas else "")),
        expected=_expected(kwargs),
        unexpected_count=unexpected,
        unexpected_percent=percent,
        error=error,
        vacuous=not error and met.count(expectation, details) == 0,
        rowwise=rowwise,
    )
    return ours, _document(expectation, details, ours)


def _column(kwargs: Mapping[str, Any]) -> str | None:
    if "column_A" in kwargs:
        return f"{kwargs['column_A']}, {kwargs.get('column_B')}"
    if isinstance(kwargs.get("column_list"), list):
        return ", ".join(map(str, kwargs["column_list"]))
    return str(kwargs["column"]) if "column" in kwargs else None


def _bounded(result: Mapping[str, Any], expectation: Mapping[str, Any]) -> dict[str, Any]:
    """Keep a result's counts; of its values only what the suite allows."""
    kept = {name: result[name] for name in _COUNTS if result.get(name) is not None}
    observed = result.get("observed_value")
    show = bool((expectation.get("meta") or {}).get(SHOW))
    if observed is not None:
        shown = observed if show or _is_harmless(expectation["type"], observed) else _summary(observed)
        kept["observed_value"] = str(shown) if isinstance(shown, date) else shown
    if show and result.get("partial_unexpected_list"):
        kept["partial_unexpected_list"] = [_short(value) for value in result["partial_unexpected_list"][:_EXAMPLES]]
    return kept


def _is_harmless(kind: str, observed: Any) -> bool:
    """Say whether an observed value is a statistic or about names, no value of the data."""
    if kind == "expect_column_quantile_values_to_be_between":
        return True
    if isinstance(observed, bool | int | float | date):
        return True
    return kind.startswith("expect_table_") or kind in ABOUT_TYPES


def _summary(observed: Any) -> str:
    return f"{len(observed)} values" if isinstance(observed, list | tuple | set | dict) else "a value"


def _observed(
    expectation: Mapping[str, Any], details: Mapping[str, Any], unexpected: int | None, *, success: bool
) -> str:
    if expectation["type"] == "unexpected_rows_expectation":
        return f"{unexpected} such rows"
    if "observed_value" in details:
        value = details["observed_value"]
        return f"{value:g}" if isinstance(value, float) else str(value)
    if unexpected:
        what = "missing values" if expectation["type"] == "expect_column_values_to_not_be_null" else "other values"
        count = "" if "unexpected_percent" in details else f"{unexpected} "
        examples = details.get("partial_unexpected_list")
        return count + what + (f", such as {', '.join(map(str, examples))}" if examples else "")
    if "element_count" in details:
        return f"{details['element_count'] - details.get('missing_count', 0)} values, all as expected"
    return "it holds" if success else "it does not hold"


def _expected(kwargs: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in kwargs.items() if k not in {"column", "column_A", "column_B", "column_list"}}
    if "description" in shown:
        return told(str(shown["description"]))
    return told(", ".join(f"{k}={v}" for k, v in shown.items()) or "it to hold")


def unreadable(exc: Exception) -> tuple[ExpectationResult, Any]:
    """Return the outcome where files cannot be read: a failure of the batch, not of the night."""
    ours = ExpectationResult(
        type="the partition can be read", column=None, severity="critical", success=False, observed=told(first_line(exc)),
        expected="files that are whole and agree on their columns",
    )  # fmt: skip
    return ours, _document({"type": ours.type}, {"observed_value": ours.observed}, ours)


def _document(expectation: Mapping[str, Any], details: Mapping[str, Any], ours: ExpectationResult) -> dict[str, Any]:
    """Return the result as GX writes it, without what it must not show."""
    info = {
        "raised_exception": bool(ours.error),
        "exception_message": ours.error,
        "exception_traceback": "" if ours.error else None,
    }
    return {
        "success": ours.success and not ours.vacuous,
        "expectation_config": {
            "type": expectation["type"],
            "kwargs": dict(expectation.get("kwargs", {})),
            "meta": dict(expectation.get("meta") or {}),
            "severity": ours.severity,
        },
        "result": {"observed_value": "no value met: it checked nothing"} if ours.vacuous else dict(details),
        "meta": {"vacuous": True} if ours.vacuous else {},
        "exception_info": info,
    }


def report(suite: Mapping[str, Any], rows: int, pairs: Sequence[tuple[ExpectationResult, Any]]) -> ValidationReport:
    """Put all outcomes together."""
    results = tuple(ours for ours, _ in pairs)
    passed = sum(result.success and not result.vacuous for result in results)
    document = {
        "success": passed == len(results),
        "results": [document for _, document in pairs],
        "suite_name": str(suite.get("name", "suite")),
        "suite_parameters": {},
        "statistics": {
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100.0 * passed / len(results) if results else None,
        },
        "meta": {"rows": rows},
    }
    return ValidationReport(
        suite=document["suite_name"], suite_digest=digest(dict(suite)), rows=rows, results=results, document=document
    )


def _short(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) or value is None else str(value)[:50]
