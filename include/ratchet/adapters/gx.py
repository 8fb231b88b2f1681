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
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratchet.adapters import duck_sql, gx_child, gx_duck, gx_metrics, gx_results, gx_rows, gx_run
from ratchet.adapters.duck_sql import first_line
from ratchet.adapters.gx_duck import Session, backend
from ratchet.adapters.gx_results import ABOUT_TYPES, SHOW, Met, outcome, probe, report, unreadable
from ratchet.adapters.gx_rows import Rows
from ratchet.adapters.gx_run import SQL, WITH_EXAMPLES, WORDS, configuration, error_of, on_pandas, validate
from ratchet.domain import validation
from ratchet.domain.records import digest
from ratchet.domain.validation import BrokenRow, ValidationReport
from ratchet.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROBE = 1_000_000  # numbers of probes are above those of expectations
# pandas has no SQL, and its types have other names.
_DUCKDB_ONLY = ABOUT_TYPES | SQL
_DECIDE = (duck_sql, gx_child, gx_duck, gx_metrics, gx_results, gx_rows, gx_run, validation)
_LIBRARIES = ("duckdb", "duckdb-engine", "great-expectations", "numpy", "pandas", "pyarrow", "sqlalchemy")


class GxValidator:
    """Fulfils ``ports.Validator``.

    Args:
        limit_seconds: how long an expectation may take on either engine.
        spill: folder for what does not fit into memory.
        memory_limit: of DuckDB, as it reads it ("4GB"); by default most of the machine's.
    """

    def __init__(
        self, limit_seconds: float = 300.0, spill: Path | None = None, memory_limit: str | None = None
    ) -> None:
        self._limit = limit_seconds
        self._place = (spill, memory_limit)
        self._session: Session | None = None
        # Of which batch and suite, and which expectations' are named.
        self._rows: tuple[object, Rows, set[int]] | None = None

    @property
    def version(self) -> str:
        """See ``ports.Validator.version``."""
        return _version()

    def validate(self, files: Sequence[Path], suite: Mapping[str, Any]) -> ValidationReport:
        """See ``ports.Validator.validate``."""
        import duckdb

        gx = backend()
        self._rows = None
        self._session = self._session or Session(*self._place)
        expectations: list[dict[str, Any]] = list(suite.get("expectations", ()))
        found: dict[int, Any] = {}
        made = {}
        wanted = [json.dumps(expectations)]
        with contextlib.redirect_stdout(io.StringIO()):  # GX prints advice
            for i, expectation in enumerate(expectations):
                try:
                    made[i] = configuration(gx, expectation, str(i))
                    wanted.append(
                        json.dumps(made[i].to_domain_obj().dict(), default=str)
                    )  # with the defaults of its class
                except Exception as exc:  # noqa: BLE001  whatever GX finds wrong with it
                    made.pop(i, None)
                    found[i] = first_line(exc)
            try:
                rows, values = self._session.hold(files, "".join(wanted))
            except duckdb.Error as exc:
                return report(suite, 0, [unreadable(exc)])
            # A row condition may match nothing: count by the side what it lets through.
            probes = {_PROBE + i: counts for i in made if (counts := probe(gx, expectations[i], str(_PROBE + i)))}
            found.update(self._run(gx, {**made, **probes}, files))
            named = self._name(gx, files, suite, {i: (made[i], found[i]) for i in made})
        pairs = []
        for i, expectation in enumerate(expectations):
            met = Met(rows, values, found.get(_PROBE + i))
            pairs.append(outcome(expectation, found[i], met, rowwise=i in named))
        return report(suite, rows, pairs)

    def broken_rows(
        self, files: Sequence[Path], suite: Mapping[str, Any], expectations: Sequence[int]
    ) -> Sequence[BrokenRow]:
        """See ``ports.Validator.broken_rows``.

        Raises:
            ValueError: one of them did not fail for single rows.
        """
        if self._rows is None or self._rows[0] != _batch(files, suite):
            self.validate(files, suite)
        named = self._rows[2] if self._rows else set()
        if wrong := sorted(set(expectations) - named):
            raise ValueError(f"expectations {wrong} of suite {suite.get('name')} did not fail for single rows")
        if not self._rows:
            return ()
        return tuple(
            BrokenRow(file=file, row=row, expectations=broken)
            for file, row, broken in self._rows[1].found(expectations)
        )

    def page(self, report: ValidationReport, title: str) -> bytes:
        """See ``ports.Validator.page``."""
        from ratchet.adapters.gx_page import page  # noqa: PLC0415

        backend()
        return page(report.document, title)

    def _name(
        self, gx: Any, files: Sequence[Path], suite: Mapping[str, Any], pairs: Mapping[int, tuple[Any, Any]]
    ) -> set[int]:
        """Find the rows of those critical failures that are about single rows, and return these failures' numbers."""
        assert self._session
        failed = {
            i: (made, result, count)
            for i, (made, result) in pairs.items()
            if made.severity == "critical" and (count := _countable(made, result))  # nothing asks for others' rows
        }
        if not failed:
            return set()
        rows = Rows(gx, self._session, files, self._limit)
        named = {
            i for i, (made, result, count) in failed.items() if rows.name(i, made, count, pandas=_is_pandas(result))
        }
        self._rows = (_batch(files, suite), rows, named)
        return named

    def _run(self, gx: Any, configurations: Mapping[int, Any], files: Sequence[Path]) -> dict[int, Any]:
        """Return GX's result by number: from DuckDB, else from DuckDB alone, else from pandas."""
        assert self._session
        found: dict[int, Any] = {}
        for how, some in self._alike(configurations).items():
            found.update(self._on_duckdb(gx, some, *how))
        for i in [i for i, result in found.items() if error_of(result)]:
            if len(configurations) > 1:
                for how, some in self._alike({i: configurations[i]}).items():
                    found.update(self._on_duckdb(gx, some, *how))
            if error_of(found[i]) and configurations[i].type not in _DUCKDB_ONLY:
                found[i] = self._on_pandas(gx, configurations[i], files, found[i])
        return found

    def _alike(self, configurations: Mapping[int, Any]) -> dict[tuple[bool, bool], dict[int, Any]]:
        """Part expectations by what they see and show: somebody's own SQL sees NaNs, and few may show values."""
        assert self._session
        parts: dict[tuple[bool, bool], dict[int, Any]] = {}
        for i, made in configurations.items():
            how = (bool(self._session.nans) and made.type in SQL, bool((made.meta or {}).get(SHOW)))
            parts.setdefault(how, {})[i] = made
        return parts

    def _on_duckdb(self, gx: Any, configurations: Mapping[int, Any], raw: bool, shown: bool) -> dict[int, Any]:  # noqa: FBT001
        assert self._session
        self._session.rollback()
        validator = gx.on_duckdb(self._session, self._session.table(raw=raw))
        with self._session.limit(self._limit):
            return validate(validator, configurations, WITH_EXAMPLES if shown else None)

    def _on_pandas(self, gx: Any, made: Any, files: Sequence[Path], on_duckdb: Any) -> Any:
        """Try an expectation on pandas; return what DuckDB said where pandas knows no better."""
        try:
            answer = on_pandas(gx, made, files, self._limit)
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
            success=answer["success"], expectation_config=made, result=answer["result"], meta={"engine": "pandas"},
            exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
        )  # fmt: skip


@cache
def _version() -> str:
    sources = [Path(str(module.__file__)) for module in _DECIDE]
    code = [path.read_text() for path in [Path(__file__), *sources]]
    return digest([code, {name: version(name) for name in _LIBRARIES}])


def _batch(files: Sequence[Path], suite: Mapping[str, Any]) -> tuple[object, ...]:
    return (tuple(files), digest(dict(suite)))


def _is_pandas(result: Any) -> bool:
    return (result.meta or {}).get("engine") == "pandas"


def _countable(made: Any, result: Any) -> int:
    """Return how many rows an expectation counts that no row may break; 0 where it holds, raised or is about more."""
    if isinstance(result, str) or error_of(result) or result.success:
        return 0
    expectation = made.to_domain_obj()
    if getattr(expectation, "mostly", 1) != 1:
        return 0
    details = result.result or {}
    sql = made.type == "unexpected_rows_expectation" or "unexpected_rows_query" in made.kwargs
    return int(details.get("observed_value" if sql else "unexpected_count") or 0)


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
            configuration(gx, expectation, "0").to_domain_obj()
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
            message = f"{message}, found {kwargs[name]!r}"[:WORDS]
        if name == "__root__" and len(errors) > 1:
            continue  # follows from the others
        by_name.setdefault(name, Problem(file, key if name == "__root__" else f"{key}.{name}", message))
    return list(by_name.values())
