"""Quarantine: where rows and partitions go that broke a critical expectation, and how a person gives them back."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Literal

from ratchet.domain.records import Record, digest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ratchet.domain.data_rules import Validation
    from ratchet.domain.validation import ExpectationResult, ValidationReport

_REASONS = 20  # that are told of one partition


class QuarantinedPartition(Record):
    """A partition that is left out as a whole."""

    partition: str  # its day, or its key where rows carry their date
    objects: tuple[str, ...]  # sha256 of each
    rows: int
    reasons: tuple[str, ...]


class QuarantinedRows(Record):
    """Rows of a partition that are left out one by one; the partition's others are used."""

    partition: str
    content: str  # digest of the partition's content
    objects: tuple[str, ...]  # sha256 of each of the partition's objects
    rows: int  # how many are left out
    reasons: tuple[str, ...]
    kept: str  # key of the Parquet file that holds them: _key, _object, _row (1 is a file's first), _reasons, their columns
    releases: tuple[str, ...] = ()  # digests of the decisions by which some of those in the file are used all the same


class Release(Record):
    """A person's decision that quarantined rows are good after all: from then on they are a new version of the partition."""

    pipeline: str
    partition: str
    day: date | None
    content: (
        str  # digest of the partition's content; a corrected partition is another one, to which this does not apply
    )
    rows: tuple[tuple[str, int], ...] | None  # (object's sha256, row from 1) of each; None: all of them
    reasons: tuple[str, ...]  # what was held against them, as it was known: for another reason they are left out again
    actor: str
    reason: str
    at: str  # ISO 8601, UTC

    @property
    def digest(self) -> str:
        """Identify the decision; it becomes part of the snapshot's digest."""
        return digest(self.model_dump(mode="json"))


class Reason(Record):
    """What is held against a partition or its rows."""

    what: str  # the expectation, by which a release knows it again
    found: str = ""
    kind: Literal["suite", "vacuous", "schema", "malformed"] = "suite"
    releasable: bool = True  # a person may say that it does not matter; otherwise the data cannot be read with the rest

    def __str__(self) -> str:
        """Say what was expected and found."""
        return f"{self.what}: {self.found}" if self.found else self.what


class Broken(Record):
    """What broke in one partition, as far as its content alone tells: kept by (content, suite), whatever follows from it."""

    partition: str
    content: str
    objects: tuple[str, ...]  # sha256 of each
    rows: int
    whole: tuple[Reason, ...] = ()  # that no single row is to blame for
    single: tuple[Reason, ...] = ()  # that single rows break
    positions: tuple[int, ...] = ()  # of the expectations in the suite that ``single`` are
    least: int = 0  # so many rows break some of ``single`` at least
    broken: int | None = None  # exactly so many; None where they have not been named
    kept: str | None = None  # key of the Parquet file that holds the broken rows

    def left_out(self, rules: Validation, releases: Sequence[Release], remaining: int | None) -> LeftOut:
        """Say what is left out of the partition.

        Args:
            rules: of the spec.
            releases: of this content.
            remaining: of the broken rows, those that no release excuses; None where the rows have not been named.
        """
        excused = {what for release in releases if release.rows is None for what in release.reasons}
        if any(not (reason.releasable and reason.what in excused) for reason in self.whole):
            return "whole"
        if not any(reason.what not in excused for reason in self.single) or remaining == 0:
            return "nothing"
        if rules.on_critical != "quarantine":
            return "whole"
        if (self.least if remaining is None else remaining) > rules.max_broken_rows * self.rows:
            return "whole"
        return "unnamed" if remaining is None else "rows"


LeftOut = Literal["nothing", "rows", "whole", "unnamed"]  # unnamed: the rows have to be named first


def reasons_of(report: ValidationReport) -> tuple[tuple[Reason, ...], dict[int, Reason]]:
    """Return what a partition breaks as a whole, and what its single rows break by position in the suite."""
    whole: list[Reason] = []
    single: dict[int, Reason] = {}
    for i, result in enumerate(report.results):
        if result.severity != "critical":
            continue
        if result.success:
            if result.vacuous:
                found = "it met no value, so it checked nothing"
                whole.append(Reason(what=_what(result), found=found, kind="vacuous"))
        elif result.rowwise:
            single[i] = Reason(what=_what(result), found=_share(result, report.rows))
        else:
            whole.append(Reason(what=_what(result), found=_found(result, report.rows)))
    return tuple(whole), single


def excuses(releases: Sequence[Release], sha256: str, row: int, reasons: Collection[str]) -> bool:
    """Say whether decisions of people together excuse all that is held against one row (from 1 in its object)."""
    mine = [release for release in releases if release.rows is None or (sha256, row) in release.rows]
    return set(reasons) <= {what for release in mine for what in release.reasons}


def told(reasons: Sequence[Reason]) -> tuple[str, ...]:
    """Return reasons in words, as many as anybody reads."""
    return tuple(str(reason) for reason in reasons[:_REASONS])


def _what(result: ExpectationResult) -> str:
    name = f"{result.type}({result.column})" if result.column else result.type
    return f"{name}: expected {result.expected}"


def _found(result: ExpectationResult, rows: int) -> str:
    if result.unexpected_count:
        return _share(result, rows)
    return f"found {result.observed}"[:300] if result.observed else "it failed"


def _share(result: ExpectationResult, rows: int) -> str:
    """Say how many rows break it, and not with which values: they may be personal."""
    count = result.unexpected_count
    return f"{count} of {rows} rows ({count / rows:.2%}) break it" if count and rows else "rows break it"
