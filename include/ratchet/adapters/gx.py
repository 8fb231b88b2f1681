"""Great Expectations: suites run over partitions, and their results as a page.

Every expectation runs on DuckDB. One that raises there is tried again alone, because GX bundles queries and one bad apple
takes its bundle along; then on pandas, which knows more expectations, in a process of its own that can be killed. Where
that gave the answer, the result says so. What raises everywhere is an error: neither passed nor failed.

Values of the data are not shown, because they may be personal: neither in results nor on the page, unless an expectation
asks for them in the suite with ``"meta": {"show_values": true}``; then at most three.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from ratchet.adapters.duck_sql import first_line, without_values
from ratchet.adapters.gx_child import in_child
from ratchet.adapters.gx_duck import Session, backend
from ratchet.domain.records import digest
from ratchet.domain.validation import BrokenRow, ExpectationResult, ValidationReport
from ratchet.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PROBE = 1_000_000  # numbers of probes are above those of expectations
_WORDS = 200  # characters of a text in a result
_EXAMPLES = 3
_SHOW = "show_values"
_ABOUT_TYPES = {
    "expect_column_values_to_be_of_type",
    "expect_column_values_to_be_in_type_list",
    "expect_column_type_to_be",
}
# These look at NULLs, names or types: a column without any value does not make them idle.
_NOT_ABOUT_VALUES = _ABOUT_TYPES | {
    "expect_column_values_to_not_be_null", "expect_column_values_to_be_null", "expect_column_to_exist",
    "expect_column_proportion_of_non_null_values_to_be_between",
}  # fmt: skip
# pandas has no SQL, and its types have other names.
_DUCKDB_ONLY = _ABOUT_TYPES | {
    "unexpected_rows_expectation", "expect_query_results_to_match_comparison", "expect_table_row_count_to_equal_other_table",
}  # fmt: skip
_COUNTS = (
    "element_count", "missing_count", "missing_percent", "unexpected_count", "unexpected_percent", "unexpected_percent_total",
    "unexpected_percent_nonmissing",
)  # fmt: skip


class GxValidator:
    """Fulfils ``ports.Validator``.

    Args:
        limit_seconds: how long an expectation may take on either engine.
    """

    def __init__(self, limit_seconds: float = 300.0) -> None:
        self._limit = limit_seconds
        self._session: Session | None = None

    def validate(self, files: Sequence[Path], suite: Mapping[str, Any]) -> ValidationReport:
        """See ``ports.Validator.validate``."""
        import duckdb

        gx = backend()
        self._session = self._session or Session()
        try:
            rows, values = self._session.hold(files)
        except duckdb.Error as exc:
            unreadable = _unreadable(exc)
            return _report(
                suite,
                0,
                [
                    (
                        unreadable,
                        _document({"type": unreadable.type}, {"observed_value": unreadable.observed}, unreadable),
                    )
                ],
            )
        expectations: list[dict[str, Any]] = list(suite.get("expectations", ()))
        found: dict[int, Any] = {}
        configurations = {}
        with contextlib.redirect_stdout(io.StringIO()):  # GX prints advice
            for i, expectation in enumerate(expectations):
                try:
                    configurations[i] = _configuration(gx, expectation, str(i))
                    configurations[i].to_domain_obj()
                except Exception as exc:  # noqa: BLE001  whatever GX finds wrong with it
                    configurations.pop(i, None)
                    found[i] = first_line(exc)
            # A row condition may match nothing: count by the side what it lets through.
            probes = {
                _PROBE + i: probe for i in configurations if (probe := _probe(gx, expectations[i], str(_PROBE + i)))
            }
            found.update(self._run(gx, {**configurations, **probes}, files))
        pairs = []
        for i, expectation in enumerate(expectations):
            met = _Met(rows, values, found.get(_PROBE + i))
            pairs.append(_result(expectation, found[i], met))
        return _report(suite, rows, pairs)

    def _run(self, gx: Any, configurations: Mapping[int, Any], files: Sequence[Path]) -> dict[int, Any]:
        """Return GX's result by number: from DuckDB, else from DuckDB alone, else from pandas."""
        assert self._session
        with self._session.limit(self._limit):
            found = _validate(gx.on_duckdb(self._session), configurations)
        for i in [i for i, result in found.items() if _error(result)]:
            if len(configurations) > 1:
                self._session.connection.rollback()
                with self._session.limit(self._limit):
                    found.update(_validate(gx.on_duckdb(self._session), {i: configurations[i]}))
            if _error(found[i]) and configurations[i].type not in _DUCKDB_ONLY:
                found[i] = self._on_pandas(gx, i, configurations[i], files, found[i])
        return found

    def _on_pandas(self, gx: Any, i: int, configuration: Any, files: Sequence[Path], on_duckdb: Any) -> Any:
        """Try an expectation on pandas; return what DuckDB said where pandas knows no better."""
        import pandas as pd

        def run() -> Any:
            frame = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
            result = _validate(gx.on_pandas(frame), {i: configuration})[i]
            return {"success": result.success, "result": result.to_json_dict()["result"], "error": _error(result)}

        try:
            answer = in_child(run, self._limit)
        except TimeoutError:
            on_duckdb.exception_info = {
                "exception_message": f"no answer from the pandas engine within {self._limit:g} s"
            }
            return on_duckdb
        except (OSError, RuntimeError, MemoryError):
            return on_duckdb
        if answer["error"]:
            return on_duckdb
        return gx.result(
            success=answer["success"], expectation_config=configuration, result=answer["result"], meta={"engine": "pandas"},
            exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
        )  # fmt: skip

    @property
    def version(self) -> str:
        """See ``ports.Validator.version``."""
        return ""

    def broken_rows(
        self, files: Sequence[Path], suite: Mapping[str, Any], expectations: Sequence[int]
    ) -> Sequence[BrokenRow]:
        """See ``ports.Validator.broken_rows``."""
        raise NotImplementedError

    def page(self, report: ValidationReport, title: str) -> bytes:
        """See ``ports.Validator.page``."""
        from ratchet.adapters.gx_page import page  # noqa: PLC0415

        backend()
        return page(report.document, title)


def check_suite(suite: Mapping[str, Any], file: str) -> list[Problem]:
    """Say what is wrong with a suite as far as that shows without data, in GX's words."""
    gx = backend()
    problems = []
    for i, expectation in enumerate(suite.get("expectations", ())):
        problems += _problems(gx, expectation, file, f"expectations[{i}]")
    return problems


def _problems(gx: Any, expectation: Mapping[str, Any], file: str, key: str) -> list[Problem]:
    kind, kwargs = expectation.get("type", ""), expectation.get("kwargs", {})
    unknown = sorted(expectation.keys() - {"type", "kwargs", "meta", "severity", "id", "description", "notes"})
    if unknown:
        return [
            Problem(
                file, f"{key}.{unknown[0]}", "is not a field. Allowed: type, kwargs, severity, description, notes, meta"
            )
        ]
    if not isinstance(kwargs, dict):
        return [Problem(file, f"{key}.kwargs", f"expected a mapping, found {type(kwargs).__name__}")]
    if kind not in gx.names():
        close = difflib.get_close_matches(kind, gx.names(), n=3, cutoff=0.5)
        return [
            Problem(
                file,
                f"{key}.type",
                f"{kind!r} is no expectation" + (f"; did you mean {' or '.join(close)}?" if close else ""),
            )
        ]
    if kind == "unexpected_rows_expectation" and "{batch}" not in str(kwargs.get("unexpected_rows_query", "{batch}")):
        return [
            Problem(
                file,
                f"{key}.kwargs.unexpected_rows_query",
                "must read FROM {batch}: it would not look at the partition",
            )
        ]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            _configuration(gx, expectation, "0").to_domain_obj()
    except Exception as exc:  # noqa: BLE001  whatever GX finds wrong with it
        told = getattr(exc, "errors", None)
        errors = told() if callable(told) else [{"loc": ("__root__",), "msg": first_line(exc), "type": ""}]
        return _explained(gx, errors, kind, kwargs, file, f"{key}.kwargs")
    return []


def _explained(
    gx: Any, errors: Sequence[Mapping[str, Any]], kind: str, kwargs: Mapping[str, Any], file: str, key: str
) -> list[Problem]:
    """Turn GX's errors into problems, one for each argument; of a union's alternatives the first says it best."""
    ours = {
        "id",
        "meta",
        "notes",
        "result_format",
        "catch_exceptions",
        "rendered_content",
        "severity",
        "windows",
        "batch_id",
    }
    allowed = sorted(gx.implementation(kind).__fields__.keys() - ours)
    by_name: dict[str, Problem] = {}
    for error in errors:
        name = str(error["loc"][0])
        message = str(error["msg"])
        if error["type"] == "value_error.extra":
            close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
            message = (
                "is not an argument"
                + (f"; did you mean {close[0]!r}?" if close else ".")
                + f" Allowed: {', '.join(allowed)}"
            )
        elif error["type"] == "value_error.missing":
            message = f"is missing. Arguments: {', '.join(allowed)}"
        elif name in kwargs:
            message = f"{message}, found {kwargs[name]!r}"[:_WORDS]
        if name == "__root__" and len(errors) > 1:
            continue  # follows from the others
        by_name.setdefault(name, Problem(file, key if name == "__root__" else f"{key}.{name}", message))
    return list(by_name.values())


def _configuration(gx: Any, expectation: Mapping[str, Any], number: str) -> Any:
    return gx.configuration(
        type=expectation["type"], kwargs=dict(expectation.get("kwargs", {})), meta=dict(expectation.get("meta") or {}),
        severity=expectation.get("severity", "critical"), notes=expectation.get("notes"), description=expectation.get("description"), id=number,
    )  # fmt: skip


def _validate(validator: Any, configurations: Mapping[int, Any]) -> dict[int, Any]:
    """Return GX's result by number; GX may return them in another order."""
    runtime = {"result_format": {"result_format": "BASIC", "partial_unexpected_count": _EXAMPLES}}
    results = validator.graph_validate(configurations=list(configurations.values()), runtime_configuration=runtime)
    return {int(result.expectation_config.id): result for result in results}


def _error(result: Any) -> str | None:
    """Return what an expectation raised."""
    if isinstance(result, str):
        return result
    info = result.exception_info or {}
    if "raised_exception" not in info and "exception_message" not in info:  # by metric
        info = next(
            (entry for entry in info.values() if isinstance(entry, dict) and entry.get("exception_message")), {}
        )
        info = info.get("exception_info", info)
    return _words(first_line(ValueError(info["exception_message"]))) if info.get("exception_message") else None


@dataclass(frozen=True)
class _Met:
    """What an expectation had before it."""

    rows: int
    values: Mapping[str, int]  # by column, those that are not null
    probe: Any  # GX's result for the row condition, where there is one

    def count(self, expectation: Mapping[str, Any], details: Mapping[str, Any]) -> int:
        """Return how many rows, or values where it is about values, the expectation looked at."""
        column = expectation.get("kwargs", {}).get("column")
        about_rows = expectation["type"] in _NOT_ABOUT_VALUES
        if self.probe is not None and not _error(self.probe):
            probed = self.probe.result
            if "element_count" not in probed:
                return int(probed["observed_value"])
            return int(probed["element_count"]) - (0 if about_rows else int(probed.get("unexpected_count") or 0))
        if column is not None and not about_rows:
            return self.values.get(column, 0)
        if "element_count" in details and "missing_count" in details:
            return int(details["element_count"] - details["missing_count"])
        return self.rows


def _probe(gx: Any, expectation: Mapping[str, Any], number: str) -> Any:
    """Return an expectation that counts what another one's row condition lets through."""
    kwargs = expectation.get("kwargs", {})
    if not kwargs.get("row_condition"):
        return None
    condition = {name: kwargs[name] for name in ("row_condition", "condition_parser") if name in kwargs}
    if "column" in kwargs:
        counted = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": kwargs["column"], **condition}}
    else:
        counted = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 0, **condition}}
    return _configuration(gx, counted, number)


def _result(expectation: Mapping[str, Any], result: Any, met: _Met) -> tuple[ExpectationResult, Any]:
    """Return one outcome in our words, and in GX's."""
    kwargs = expectation.get("kwargs", {})
    error = _error(result)
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
        observed=_words(observed + (" (by the pandas engine: DuckDB cannot run it)" if on_pandas else "")),
        expected=_expected(kwargs),
        unexpected_count=unexpected,
        unexpected_percent=percent,
        error=error,
        vacuous=not error and met.count(expectation, details) == 0,
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
    show = bool((expectation.get("meta") or {}).get(_SHOW))
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
    return kind.startswith("expect_table_") or kind in _ABOUT_TYPES


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
        return _words(str(shown["description"]))
    return _words(", ".join(f"{k}={v}" for k, v in shown.items()) or "it to hold")


def _unreadable(exc: Exception) -> ExpectationResult:
    return ExpectationResult(
        type="the partition can be read", column=None, severity="critical", success=False, observed=_words(first_line(exc)),
        expected="files that are whole and agree on their columns",
    )  # fmt: skip


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


def _report(suite: Mapping[str, Any], rows: int, pairs: Sequence[tuple[ExpectationResult, Any]]) -> ValidationReport:
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


def _words(text: str) -> str:
    text = re.sub(r"^\(_duckdb\.\w+\) ", "", without_values(" ".join(text.split())))
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"
