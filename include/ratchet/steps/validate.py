"""validate: run the suite on every partition that it has not seen, and quarantine what breaks it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.domain.night import ValidateResult
from ratchet.domain.quarantine import QuarantinedPartition
from ratchet.domain.records import Record, digest
from ratchet.domain.snapshots import Pin
from ratchet.errors import DataRejected
from ratchet.steps import frames
from ratchet.steps.snapshot import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.validation import ValidationReport
    from ratchet.steps.context import Context


class _Partition(Record):
    """The files that are validated as one batch, and the digest of their content."""

    name: str
    pins: tuple[Pin, ...]
    content: str


def validate(ctx: Context) -> ValidateResult:
    """Validate new partitions; results are kept by (content, suite), so an old one is never validated twice.

    Raises:
        DataRejected: ``validation`` or ``quarantined`` (too much broke), ``error`` (an expectation could not be checked).
    """
    store, name, suite = ctx.services.store, ctx.pipeline.name, ctx.pipeline.suite_digest
    snapshot = load(ctx)
    partitions = _partitions(snapshot.tables["rows"])
    seen = {
        stored.uri.rpartition("/")[2].removesuffix(".json") for stored in store.list(layout.validations(name, suite))
    }
    new = [p for p in partitions if p.content not in seen]
    warnings: list[str] = []
    for i, partition in enumerate(new, start=1):
        ctx.say(f"partition {partition.name} ({i} of {len(new)})")
        warnings += _validate(ctx, partition)
    noted = {
        stored.uri.rpartition("/")[2].removesuffix(".json") for stored in store.list(layout.quarantines(name, suite))
    }
    quarantined = tuple(_note(ctx, p) for p in partitions if p.content in noted)
    _refuse(ctx, quarantined, len(partitions))
    return ValidateResult(
        checked=len(new),
        cached=len(partitions) - len(new),
        quarantined=quarantined,
        warnings=tuple(warnings[:50]),
        docs=layout.data_docs(name, suite, partitions[-1].content),
        rows=sum(pin.rows for pin in snapshot.tables["rows"]) - sum(q.rows for q in quarantined),
    )


def _partitions(pins: Sequence[Pin]) -> list[_Partition]:
    """Group a snapshot's objects: one batch per day, or per object where rows carry their date."""
    made = []
    for name, group in groupby(pins, key=lambda pin: str(pin.day) if pin.day else pin.key):
        members = tuple(group)
        made.append(_Partition(name=name, pins=members, content=digest(sorted(pin.sha256 for pin in members))))
    return made


def _validate(ctx: Context, partition: _Partition) -> list[str]:
    """Validate one partition, keep the result, and return what it warns of."""
    services, name, suite = ctx.services, ctx.pipeline.name, ctx.pipeline.suite_digest
    files = frames.readable(ctx, ctx.pipeline.spec.source, partition.pins)
    report = services.validator.validate([file.path for file in files], ctx.pipeline.suite)
    errors = [str(r) for r in report.results if r.error]
    if errors:
        raise DataRejected(
            "error",
            f"partition {partition.name}: {'; '.join(errors[:3])}. A check that could not be made has not passed: "
            f"mend suites/{ctx.pipeline.spec.validation.suite}.json or the data, then run the night again",
        )
    reasons = _reasons(report)
    page = services.validator.page(report, f"{name} {partition.name}")
    services.store.put(layout.data_docs(name, suite, partition.content), page, "text/html; charset=utf-8")
    if reasons:
        rows = sum(pin.rows for pin in partition.pins)
        note = QuarantinedPartition(
            partition=partition.name, objects=tuple(p.sha256 for p in partition.pins), rows=rows, reasons=reasons
        )
        services.store.put(layout.quarantine(name, suite, partition.content), note.model_dump_json(indent=1).encode())
    # Last, because its presence says that the partition is dealt with.
    services.store.put(layout.validation(name, suite, partition.content), report.model_dump_json().encode())
    return [f"{partition.name}: {result}" for result in report.warnings]


def _reasons(report: ValidationReport) -> tuple[str, ...]:
    broken = [str(result)[:300] for result in report.critical]
    empty = [
        f"{r.type}({r.column}) met no value, so it checked nothing"
        for r in report.results
        if r.vacuous and r.severity == "critical" and r.success
    ]
    return (*broken, *empty)[:20]


def _note(ctx: Context, partition: _Partition) -> QuarantinedPartition:
    key = layout.quarantine(ctx.pipeline.name, ctx.pipeline.suite_digest, partition.content)
    return QuarantinedPartition.model_validate_json(ctx.services.store.get(key))


def _refuse(ctx: Context, quarantined: Sequence[QuarantinedPartition], partitions: int) -> None:
    if not quarantined:
        return
    validation = ctx.pipeline.spec.validation
    worst = "; ".join(f"{q.partition}: {q.reasons[0]}" for q in quarantined[-3:])
    if validation.on_critical == "reject":
        raise DataRejected(
            "validation", f"{len(quarantined)} of {partitions} partitions break suite {validation.suite}: {worst}"
        )
    if len(quarantined) > validation.max_quarantined * partitions:
        raise DataRejected(
            "quarantined",
            f"{len(quarantined)} of {partitions} partitions break suite {validation.suite}, "
            f"validation.max_quarantined allows {validation.max_quarantined:.0%}: {worst}",
        )
