"""What a suite found in one partition."""

from __future__ import annotations

from typing import Any, Literal

from ratchet.domain.records import Record

Severity = Literal["critical", "warning", "info"]


class ExpectationResult(Record):
    """The outcome of one expectation on one batch."""

    type: str  # as in the suite: expect_column_values_to_be_between …
    column: str | None
    severity: Severity
    success: bool
    observed: str  # bounded text: what was found, never raw personal data beyond a few values
    expected: str  # the expectation's arguments, bounded text
    unexpected_count: int | None = None  # rows
    unexpected_percent: float | None = None  # 0 to 100
    error: str | None = None  # the expectation raised; it neither passed nor failed
    vacuous: bool = False  # it met no value at all, so its success says nothing
    rowwise: bool = (
        False  # critical, and failed for single rows, of which each can be named (``Validator.broken_rows``)
    )

    def __str__(self) -> str:
        """Say in one line what failed and where."""
        what = f"{self.type}({self.column})" if self.column else self.type
        if self.error:
            return f"{what} could not be checked: {self.error}"
        share = f", {self.unexpected_count} rows ({self.unexpected_percent:.2f} %)" if self.unexpected_percent else ""
        return f"{what}: expected {self.expected}, found {self.observed}{share}"


class BrokenRow(Record):
    """A row that breaks expectations."""

    file: int  # position among the files that were validated
    row: int  # from 0 in the file
    expectations: tuple[int, ...]  # positions in the suite


class ValidationReport(Record):
    """The outcome of a suite on one batch."""

    suite: str
    suite_digest: str
    rows: int
    results: tuple[ExpectationResult, ...]
    document: dict[str, Any]  # the backend's own result, for Data Docs

    @property
    def warnings(self) -> tuple[ExpectationResult, ...]:
        """Other expectations that failed."""
        return tuple(r for r in self.results if r.severity != "critical" and not r.success)
