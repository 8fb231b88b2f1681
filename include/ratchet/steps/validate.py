"""validate: run the suite on every partition that it has not seen, and quarantine what breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratchet.domain import layout
from ratchet.domain.night import ValidateResult
from ratchet.domain.quarantine import Broken, QuarantinedPartition, QuarantinedRows, Reason, reasons_of, told
from ratchet.domain.schemas import FileColumns, agreement, remedy
from ratchet.domain.validation import ValidationReport
from ratchet.errors import DataRejected
from ratchet.steps import broken_rows, frames, quarantine
from ratchet.steps.recorded import recorded
from ratchet.steps.snapshot import load
from ratchet.steps.window_checks import window_findings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratchet.domain.quarantine import LeftOut, Release
    from ratchet.domain.schemas import Deviation
    from ratchet.domain.snapshots import Pin
    from ratchet.steps.context import Context
    from ratchet.steps.quarantine import Partition

_WARNINGS = 50  # that a night's record holds
_SHOWN = 3  # partitions that a message names
_DEVIATIONS = {"extra": "extra column", "missing": "missing column", "type": "other type of column"}


class Judged(NamedTuple):
    """What a night leaves out, and why."""

    partitions: tuple[QuarantinedPartition, ...]
    rows: tuple[QuarantinedRows, ...]
    reasons: Mapping[str, tuple[Reason, ...]]  # by partition, of those that are left out in whole or in part


def validate(ctx: Context) -> ValidateResult:
    """Validate new partitions; results are kept by (content, suite, validator), so an old one is never validated twice.

    Raises:
        DataRejected: ``validation``, ``schema``, ``malformed``, ``vacuous`` or ``quarantined`` (too much broke), ``error`` (an
            expectation could not be checked).
    """
    return recorded(ctx, "validate", ValidateResult, lambda: _validate(ctx))


def _validate(ctx: Context) -> ValidateResult:
    snapshot = load(ctx)
    partitions = quarantine.partitions(snapshot.tables["rows"])
    releases = quarantine.released(ctx.services, snapshot)
    odd = deviating(ctx, partitions, releases)
    sound = [partition for partition in partitions if partition.name not in odd]
    new = _unseen(ctx, sound)
    for i, partition in enumerate(new, start=1):
        ctx.say(f"partition {partition.name} ({i} of {len(new)})")
        _check(ctx, partition)
    judged = judge(ctx, partitions, releases, odd)
    _refuse(ctx, judged, partitions)
    landed = sum(partition.rows for partition in partitions)
    left_out = sum(q.rows for q in judged.partitions) + sum(q.rows for q in judged.rows)
    made = ValidateResult(
        checked=len(new),
        cached=len(sound) - len(new),
        quarantined=judged.partitions,
        quarantined_rows=judged.rows,
        warnings=_warnings(ctx, sound, new),
        docs=layout.data_docs(ctx.pipeline.name, quarantine.suite_key(ctx), sound[-1].content) if sound else None,
        rows=landed - left_out,
    )
    return made.model_copy(update={"findings": window_findings(ctx, made)})


def deviating(
    ctx: Context, partitions: Sequence[Partition], releases: Mapping[str, Sequence[Release]]
) -> dict[str, tuple[Reason, ...]]:
    """Say which partitions cannot be read as one table with the others, and why, unless somebody has released them."""
    odd: dict[str, list[Reason]] = {}
    files = []
    for partition in partitions:
        for pin in partition.pins:
            if pin.problem:
                odd.setdefault(partition.name, []).append(_problem(pin.problem))
        if partition.name not in odd:
            files += [FileColumns(partition.name, pin.key, *_columns(ctx, pin)) for pin in partition.pins]
    pins = {pin.key: pin for partition in partitions for pin in partition.pins}
    for found in agreement(files, ctx.pipeline.spec.source.ignore).deviations if files else ():
        words = found.words + (_misfits(ctx, pins[found.key], found) if found.kind == "type" else "")
        reason = Reason(
            what=f"{_DEVIATIONS[found.kind]} {found.column}",  # not what the others have: that is another thing each night
            found=f"{words}. {remedy('rows', found)}",
            kind="schema",
            releasable=found.kind == "extra",
        )
        odd.setdefault(found.partition, []).append(reason)
    content = {partition.name: partition.content for partition in partitions}
    held = {name: quarantine.unexcused(reasons, releases.get(content[name], ())) for name, reasons in odd.items()}
    return {name: reasons for name, reasons in held.items() if reasons}


def _problem(said: str) -> Reason:
    kind, _, words = said.partition(": ")
    return Reason(what=words or said, kind="schema" if kind == "schema" else "malformed", releasable=False)


def _columns(ctx: Context, pin: Pin) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Return an object's columns, and which have no value; manifests of earlier releases do not say them."""
    if pin.columns is not None:
        return dict(pin.columns), pin.empty
    (profile,) = frames.profiles(ctx, ctx.pipeline.spec.source, [pin])
    return profile.columns, profile.empty


def _misfits(ctx: Context, pin: Pin, found: Deviation) -> str:
    """Say which rows hold something else than the type that is expected, where it is single values that do."""
    (file,) = frames.readable(ctx, ctx.pipeline.spec.source, [pin])
    count, rows = ctx.services.engine.misfits(file.path, found.column, found.expected)
    if not count or count == pin.rows:
        return ""
    more = " …" if count > len(rows) else ""
    null = "; a text that means no value belongs into source.null_values" if _is_csv(pin) else ""
    return f" in {count} of {pin.rows} rows: row {', '.join(map(str, rows))}{more}{null}"


def _is_csv(pin: Pin) -> bool:
    return pin.key.lower().endswith((".csv", ".csv.gz"))


def _unseen(ctx: Context, partitions: Sequence[Partition]) -> list[Partition]:
    """Return the partitions that have no result yet, each content once."""
    noted = quarantine.noted(ctx)
    # Where the note on what was broken has been lost the partition has not passed: it is validated again.
    seen = {content for content, key in _results(ctx).items() if not layout.validated(key)[1] or content in noted}
    return list({p.content: p for p in partitions if p.content not in seen}.values())


def _results(ctx: Context) -> dict[str, str]:
    """Return the keys of the validation results that there are, by content."""
    prefix = layout.validations(ctx.pipeline.name, quarantine.suite_key(ctx))
    return {layout.validated(stored.uri)[0]: stored.uri for stored in ctx.services.store.list(prefix)}


def _check(ctx: Context, partition: Partition) -> None:
    """Validate one partition, and keep what was found."""
    services, name, suite = ctx.services, ctx.pipeline.name, quarantine.suite_key(ctx)
    files = frames.readable(ctx, ctx.pipeline.spec.source, partition.pins)
    report = services.validator.validate([file.path for file in files], ctx.pipeline.suite)
    errors = [str(result) for result in report.results if result.error]
    if errors:
        raise DataRejected(
            "error",
            f"partition {partition.name}: {'; '.join(errors[:_SHOWN])}. A check that could not be made has not passed: "
            f"mend suites/{ctx.pipeline.spec.validation.suite}.json or the data, then run the night again",
        )
    page = services.validator.page(report, f"{name} {partition.name}")
    services.store.put(layout.data_docs(name, suite, partition.content), page, "text/html; charset=utf-8")
    whole, single = reasons_of(report)
    if whole or single:
        found = Broken(
            partition=partition.name,
            content=partition.content,
            objects=partition.objects,
            rows=partition.rows,
            whole=whole,
            single=tuple(single.values()),
            positions=tuple(single),
            least=max((report.results[i].unexpected_count or 0 for i in single), default=0),
        )
        if not whole and found.left_out(ctx.pipeline.spec.validation, (), None) == "unnamed":
            found = broken_rows.named(ctx, partition, found)
        quarantine.note(ctx, found)
    # Last, because its presence says that the partition is dealt with.
    key = layout.validation(name, suite, partition.content, broken=bool(whole or single))
    services.store.put(key, report.model_dump_json().encode())


def judge(
    ctx: Context,
    partitions: Sequence[Partition],
    releases: Mapping[str, Sequence[Release]],
    odd: Mapping[str, tuple[Reason, ...]],
) -> Judged:
    """Say what is left out of a snapshot whose partitions have been validated.

    Args:
        ctx: whose spec and services.
        partitions: the snapshot's.
        releases: by the content that they are about.
        odd: partitions that cannot be read as one table with the others.
    """
    known = quarantine.broken(ctx, (partition for partition in partitions if partition.name not in odd))
    whole: list[QuarantinedPartition] = []
    single: list[QuarantinedRows] = []
    reasons: dict[str, tuple[Reason, ...]] = dict(odd)
    for partition in partitions:
        found = known.get(partition.content)
        if partition.name in odd:
            whole.append(_whole(partition, odd[partition.name]))
        elif found is not None:
            given = releases.get(partition.content, ())
            what, found, left = _left_out(ctx, partition, found, given)
            held = quarantine.unexcused((*found.whole, *found.single), given)
            if what == "whole":
                whole.append(_whole(partition, held))
            elif what == "rows":
                single.append(_single(partition, found, left, held, given))
            if what != "nothing":
                reasons[partition.name] = held
    return Judged(tuple(whole), tuple(single), reasons)


def _left_out(
    ctx: Context, partition: Partition, found: Broken, given: Sequence[Release]
) -> tuple[LeftOut, Broken, int]:
    """Say what is left out of a partition, and how many of its rows one by one; name these where that was not needed before."""
    left = quarantine.remaining(ctx.services, found, given)
    what = found.left_out(ctx.pipeline.spec.validation, given, left)
    if what == "unnamed":  # the spec, or a person, has come to ask for less than when it was validated
        found = broken_rows.named(ctx, partition, found)
        quarantine.note(ctx, found)
        left = quarantine.remaining(ctx.services, found, given)
        what = found.left_out(ctx.pipeline.spec.validation, given, left)
    return what, found, left or 0


def _whole(partition: Partition, reasons: Sequence[Reason]) -> QuarantinedPartition:
    return QuarantinedPartition(
        partition=partition.name, objects=partition.objects, rows=partition.rows, reasons=told(reasons)
    )


def _single(
    partition: Partition, found: Broken, left: int, reasons: Sequence[Reason], given: Sequence[Release]
) -> QuarantinedRows:
    assert found.kept
    return QuarantinedRows(
        partition=partition.name,
        content=partition.content,
        objects=partition.objects,
        rows=left,
        reasons=told(reasons),
        kept=found.kept,
        releases=tuple(sorted(release.digest for release in given)),
    )


def _warnings(ctx: Context, sound: Sequence[Partition], new: Sequence[Partition]) -> tuple[str, ...]:
    """Return what warns of partitions that are new to this night: to the suite, or to the snapshot before."""
    assert ctx.night.snapshot
    difference = ctx.night.snapshot.difference
    keys = {*difference.added, *difference.corrected}
    contents, results = {partition.content for partition in new}, _results(ctx)
    warnings: list[str] = []
    for partition in sound:
        if partition.content not in contents and not any(pin.key in keys for pin in partition.pins):
            continue
        report = ValidationReport.model_validate_json(ctx.services.store.get(results[partition.content]))
        warnings += [f"{partition.name}: {result}" for result in report.warnings]
    return tuple(warnings[:_WARNINGS])


def _refuse(ctx: Context, judged: Judged, partitions: Sequence[Partition]) -> None:
    """Refuse a night of which too much is left out.

    Raises:
        DataRejected: in the words of the spec's rules.
    """
    rules, asked = ctx.pipeline.spec.validation, "`ratchet quarantine list` shows all"
    broken: list[QuarantinedPartition | QuarantinedRows] = [*judged.partitions, *judged.rows]
    if not broken:
        return
    worst = "; ".join(f"{q.partition}: {q.reasons[0]}" for q in broken[-_SHOWN:])
    if rules.on_critical == "reject":
        kinds = _kinds(judged.reasons)
        reason = next((kind for kind in ("schema", "malformed", "vacuous") if kinds == {kind}), "validation")
        raise DataRejected(
            reason,
            f"{len(broken)} of {len(partitions)} partitions are not as suite {rules.suite} and the others ask, and "
            f"validation.on_critical is reject: {worst}. Mend them and land them again",
        )
    if len(judged.partitions) > rules.max_quarantined * len(partitions):
        reason = "vacuous" if _kinds(judged.reasons) == {"vacuous"} else "quarantined"
        worst = "; ".join(f"{q.partition}: {q.reasons[0]}" for q in judged.partitions[-_SHOWN:])
        raise DataRejected(
            reason,
            f"{len(judged.partitions)} of {len(partitions)} partitions break suite {rules.suite} or are not like the others, "
            f"validation.max_quarantined allows {rules.max_quarantined:.0%}: {worst}. Mend them and land them again, or give back what is "
            f"right; {asked}",
        )
    landed = sum(partition.rows for partition in partitions)
    rows = sum(q.rows for q in judged.rows)
    if rows > rules.max_quarantined_rows * landed:
        worst = "; ".join(f"{q.partition}: {q.rows} rows, {q.reasons[0]}" for q in judged.rows[-_SHOWN:])
        raise DataRejected(
            "quarantined",
            f"{rows} of {landed} rows break suite {rules.suite} one by one, validation.max_quarantined_rows allows "
            f"{rules.max_quarantined_rows:.1%}: {worst}. Mend them and land them again, or give back what is right; {asked}",
        )


def _kinds(reasons: Mapping[str, Sequence[Reason]]) -> set[str]:
    return {reason.kind for held in reasons.values() for reason in held}
