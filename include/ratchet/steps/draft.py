"""draft: propose a suite from what has landed, and try it on all of it."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from ratchet.domain.records import Record
from ratchet.domain.suite_draft import MIN_PARTITIONS, PartitionFigures, propose
from ratchet.domain.windows import Span
from ratchet.errors import DataRejected, UsageError
from ratchet.steps import pulls
from ratchet.steps.listing import listed
from ratchet.steps.snapshot import date_column, file_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ratchet.steps.context import Context

_KEY_COLUMNS = 40  # that are tried for a key


class History(Protocol):
    """Figures of partitions."""

    def figures(self, name: str, day: date | None, files: Sequence[Path]) -> PartitionFigures:
        """Look at one partition."""

    def extend(self, files: Sequence[Path], key: Sequence[str], columns: Sequence[str]) -> tuple[str, ...] | None:
        """Add columns to a key until it names each row of a partition."""

    def names_rows(self, files: Sequence[Path], key: Sequence[str]) -> bool:
        """Say whether no two rows of a partition share these columns."""


class Draft(Record):
    """A proposed suite, and what it was made of."""

    suite: dict[str, Any]
    partitions: tuple[str, ...]
    rows: int
    skipped: tuple[str, ...]  # partitions that could not be read, and why
    dropped: tuple[str, ...]  # expectations that did not hold on the history, and so are not proposed


class _Partition(Record):
    """Files that are validated as one batch."""

    name: str
    day: date | None
    files: tuple[Any, ...]  # paths


def draft(ctx: Context, history: History, cutoff: date | None = None) -> Draft:
    """Propose a suite for a pipeline's source.

    Args:
        ctx: the pipeline, the services and whoever watches; no night.
        history: looks at partitions.
        cutoff: the newest day to look at; by default the newest that has landed.

    Raises:
        UsageError: too little has landed.
        DataRejected: as for a snapshot, where objects cannot be listed or pulled.
    """
    skipped: list[str] = []
    partitions = _partitions(ctx, cutoff, skipped)
    if len(partitions) < MIN_PARTITIONS:
        raise UsageError(
            f"{ctx.pipeline.name}: {len(partitions)} readable partitions in {ctx.pipeline.spec.source.uri}"
            f"{f' up to {cutoff}' if cutoff else ''}, a draft needs {MIN_PARTITIONS}"
            + (f"; not readable: {'; '.join(skipped[:3])}" if skipped else "")
        )
    seen = []
    for i, partition in enumerate(partitions, start=1):
        ctx.say(f"partition {partition.name} ({i} of {len(partitions)})")
        seen.append(history.figures(partition.name, partition.day, partition.files))
    suite = propose(ctx.pipeline.spec.validation.suite, seen, _keys(history, partitions, seen))
    dropped = _failed(ctx, suite, partitions)
    kept = [e for i, e in enumerate(suite["expectations"]) if i not in dropped]
    return Draft(
        suite={**suite, "expectations": kept}, partitions=tuple(p.name for p in partitions), rows=sum(p.rows for p in seen),
        skipped=tuple(skipped), dropped=tuple(dropped.values()),
    )  # fmt: skip


def _partitions(ctx: Context, cutoff: date | None, skipped: list[str]) -> list[_Partition]:
    """Return the newest partitions, as many days of them as the window has."""
    table = ctx.pipeline.spec.source
    made = listed(ctx, "rows", table, Span(first=date.min, last=cutoff or date.max))
    days = [landing.day for landing in made.landings if landing.day]
    since = max(days) - timedelta(days=ctx.pipeline.spec.window.days - 1) if days else date.min
    objects = [(found, landing.day) for landing in made.landings for found in landing.objects if (landing.day or since) >= since]  # fmt: skip
    fetched = pulls.pull(ctx.services.store, [found for found, _ in objects])
    read = []
    for (found, day), (path, sha) in zip(objects, fetched, strict=True):
        key = found.uri.removeprefix("s3://").partition("/")[2]
        try:
            file, profile = ctx.services.engine.load(path, sha, key, file_format(table), date_column(table))
        except DataRejected as exc:
            skipped.append(str(exc))
            continue
        newest = day or (max(profile.days) if profile.days else None)
        if profile.rows and (newest is None or newest <= (cutoff or date.max)):
            read.append((day, key, newest, file))
    last = max((newest for _, _, newest, _ in read if newest), default=date.max)
    wanted = [entry for entry in read if entry[2] is None or (last - entry[2]).days < ctx.pipeline.spec.window.days]
    return list(_grouped(wanted))


def _grouped(read: Sequence[tuple[date | None, str, date | None, Path]]) -> Iterator[_Partition]:
    """Make batches as nights do: a day's files are one, and each file is where rows carry their date."""
    ordered = sorted(read, key=lambda entry: (str(entry[2] or ""), entry[1]))
    for name, group in groupby(ordered, key=lambda entry: str(entry[0] or entry[1])):
        members = list(group)
        yield _Partition(name=name, day=members[0][0], files=tuple(file for *_, file in members))


def _keys(
    history: History, partitions: Sequence[_Partition], seen: Sequence[PartitionFigures]
) -> list[tuple[str, ...]]:
    """Find columns that name a row in every partition; fractions name nothing."""
    newest = seen[-1].columns
    names = [
        c
        for c, f in newest.items()
        if f.type not in ("FLOAT", "DOUBLE")
        and not f.type.startswith("DECIMAL")
        and all(c in p.columns and p.columns[c].values == p.rows for p in seen)
    ]
    single = [c for c in names if all(p.columns[c].distinct == p.rows for p in seen)]
    if single:
        return [(column,) for column in single]
    key: tuple[str, ...] | None = ()
    for partition in partitions:
        if key is not None and not (key and history.names_rows(partition.files, key)):
            key = history.extend(partition.files, key, names[:_KEY_COLUMNS])
    return [_without_idle(history, partitions, key)] if key else []


def _without_idle(history: History, partitions: Sequence[_Partition], key: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out columns that others have made idle."""
    for column in key:
        fewer = tuple(c for c in key if c != column)
        if fewer and all(history.names_rows(p.files, fewer) for p in partitions):
            key = fewer
    return key


def _failed(ctx: Context, suite: dict[str, Any], partitions: Sequence[_Partition]) -> dict[int, str]:
    """Return the proposed expectations that some partition breaks, and how."""
    failed: dict[int, str] = {}
    for i, partition in enumerate(partitions, start=1):
        ctx.say(f"trying the draft on {partition.name} ({i} of {len(partitions)})")
        report = ctx.services.validator.validate(partition.files, suite)
        for number, result in enumerate(report.results):
            if not result.success or (result.vacuous and result.severity == "critical"):
                failed.setdefault(number, f"{partition.name}: {result}")
    return failed
