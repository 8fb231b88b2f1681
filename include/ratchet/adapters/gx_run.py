"""Runs expectations on GX's engines: DuckDB, and pandas in a process of its own that can be killed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ratchet.adapters.duck_sql import first_line, without_values
from ratchet.adapters.gx_child import in_child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ratchet.adapters.gx_duck import Backend

WORDS = 200  # characters of a text in a result
WITH_EXAMPLES: dict[str, Any] = {"result_format": "BASIC", "partial_unexpected_count": 3}
_QUERY = "unexpected_rows_query"
# Expectations in SQL: pandas has none.
SQL = {
    "unexpected_rows_expectation",
    "expect_query_results_to_match_comparison",
    "expect_table_row_count_to_equal_other_table",
}


def configuration(gx: Any, expectation: Mapping[str, Any], number: str) -> Any:
    """Make an expectation of a suite GX's, under a number by which its result is found again."""
    kwargs = dict(expectation.get("kwargs", {}))
    if isinstance(kwargs.get(_QUERY), str):
        kwargs[_QUERY] = _bare(kwargs[_QUERY])
    return gx.configuration(
        type=expectation["type"], kwargs=kwargs, meta=dict(expectation.get("meta") or {}),
        severity=expectation.get("severity", "critical"), notes=expectation.get("notes"), description=expectation.get("description"), id=number,
    )  # fmt: skip


def _bare(sql: str) -> str:
    """Cut off the comments and semicolons that end a query: GX puts it in brackets, and a comment would swallow one."""
    import duckdb

    raw = sql.encode()  # positions count bytes
    for start, kind in reversed(duckdb.tokenize(sql)):
        if kind != duckdb.token_type.comment and raw[start : start + 1] != b";":
            break
        raw = raw[:start]
    return raw.decode()


def validate(
    validator: Any, configurations: Mapping[int, Any], result_format: Mapping[str, Any] | None = None
) -> dict[int, Any]:
    """Return GX's result by number; GX may return them in another order.

    Examples of unexpected values cost a query each: there are none, unless another format is asked for.
    """
    runtime = {"result_format": result_format or {"result_format": "BASIC", "partial_unexpected_count": 0}}
    results = validator.graph_validate(configurations=list(configurations.values()), runtime_configuration=runtime)
    return {int(result.expectation_config.id): result for result in results}


def error_of(result: Any) -> str | None:
    """Return what an expectation raised."""
    if isinstance(result, str):
        return result
    info = result.exception_info or {}
    if "raised_exception" not in info and "exception_message" not in info:  # by metric
        info = next(
            (entry for entry in info.values() if isinstance(entry, dict) and entry.get("exception_message")), {}
        )
        info = info.get("exception_info", info)
    return told(first_line(ValueError(info["exception_message"]))) if info.get("exception_message") else None


def on_pandas(
    gx: Backend, configuration: Any, files: Sequence[Path], limit_seconds: float, row: str | None = None
) -> dict[str, Any]:
    """Run one expectation on pandas.

    Args:
        gx: the parts of GX.
        configuration: GX's.
        files: the batch's.
        limit_seconds: after which it is killed.
        row: a name that no column has: then ``rows`` are the positions in the batch of all rows that the expectation counts as
            unexpected, where it holds without them; else None.

    Returns:
        ``success``, ``result`` as GX writes it, ``error``, ``rows``.

    Raises:
        TimeoutError: it took too long. OSError, RuntimeError, MemoryError: its process could not do it.
    """

    def run() -> dict[str, Any]:
        frame = _frame(files)
        (found,) = validate(gx.on_pandas(frame), {0: configuration}, WITH_EXAMPLES).values()
        named = _named(gx, configuration, frame, row) if row and not error_of(found) else None
        return {
            "success": found.success,
            "result": found.to_json_dict()["result"],
            "error": error_of(found),
            "rows": named,
        }

    answer: dict[str, Any] = in_child(run, limit_seconds)
    return answer


def _frame(files: Sequence[Path]) -> Any:
    import pandas as pd
    import pyarrow.parquet as pq  # noqa: PLC0415

    # Folders named like "a=b" on the way to a file are no columns.
    return pd.concat([pq.read_table(file, partitioning=None).to_pandas() for file in files], ignore_index=True)


def _named(gx: Backend, configuration: Any, frame: Any, row: str) -> list[int] | None:
    numbered = frame.assign(**{row: range(len(frame))})
    listing = {"result_format": "COMPLETE", "unexpected_index_column_names": [row]}
    (found,) = validate(gx.on_pandas(numbered), {0: configuration}, listing).values()
    rows = sorted({int(listed[row]) for listed in (found.result or {}).get("unexpected_index_list") or ()})
    (without,) = validate(gx.on_pandas(frame.drop(index=rows).reset_index(drop=True)), {0: configuration}).values()
    return rows if without.success and not error_of(without) else None


def told(text: str) -> str:
    """Return a text of a result: bounded, on one line, without values of the data."""
    text = re.sub(r"^\(_duckdb\.\w+\) ", "", without_values(" ".join(text.split())))
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"
