"""Quarantine as a person sees it: what of the newest snapshot is left out and why, and giving back what is right."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from ratchet.domain import layout
from ratchet.domain.night import Night, NightRequest
from ratchet.domain.quarantine import QuarantinedPartition, Reason, Release, excuses
from ratchet.domain.records import Record
from ratchet.errors import ActionRefused, ObjectNotFound
from ratchet.steps import pinned, quarantine
from ratchet.steps.context import Context
from ratchet.steps.validate import deviating, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratchet.domain.snapshots import Snapshot
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services
    from ratchet.steps.quarantine import Partition
    from ratchet.steps.validate import Judged

_OURS = ("_key", "_object", "_row", "_reasons")
_LISTED = 20  # partitions that a message names


class Held(Record):
    """A partition that is left out of the newest snapshot, in whole or in part."""

    partition: str
    day: date | None
    content: str
    keys: tuple[str, ...]  # of its objects
    landed: int  # rows
    left_out: int  # of these
    whole: bool
    reasons: tuple[Reason, ...]
    kept: str | None  # key of the file that holds the rows, where they are left out one by one
    given_back: (
        int  # of the rows left out, those that the next night takes in by decisions that came after this snapshot
    )


class HeldRow(Record):
    """A row that is left out."""

    key: str
    row: int  # from 1
    reasons: tuple[str, ...]
    values: dict[str, Any] | None = None  # only where they were asked for: they may be personal


def held(services: Services, pipeline: Pipeline, cutoff: date | None = None) -> tuple[Snapshot, tuple[Held, ...]]:
    """Return what a night's snapshot has in quarantine, by default the newest's, whether or not it came to a decision.

    Raises:
        UsageError: no night has a snapshot.
    """
    snapshot = pinned.find(services, pipeline, cutoff)
    ctx = _context(services, pipeline, snapshot)
    partitions = quarantine.partitions(snapshot.tables["rows"])
    now = _judged(ctx, partitions, quarantine.released(services, snapshot))
    every = tuple(quarantine.releases_of(ctx, snapshot.tables))
    then = now
    if set(every) != set(snapshot.releases):
        later = snapshot.model_copy(update={"releases": every})
        then = _judged(ctx, partitions, quarantine.released(services, later))
    kept = {rows.partition: rows for rows in now.rows}
    out, still = _left_out(now), _left_out(then)
    return snapshot, tuple(
        Held(
            partition=partition.name,
            day=partition.pins[0].day,
            content=partition.content,
            keys=tuple(pin.key for pin in partition.pins),
            landed=partition.rows,
            left_out=out[partition.name],
            whole=partition.name not in kept,
            reasons=now.reasons[partition.name],
            kept=kept[partition.name].kept if partition.name in kept else None,
            given_back=out[partition.name] - still.get(partition.name, 0),
        )
        for partition in partitions
        if partition.name in out
    )


def rows(services: Services, pipeline: Pipeline, partition: str, *, values: bool = False) -> tuple[Held, list[HeldRow]]:
    """Return the rows of a partition that are left out one by one.

    Args:
        services: the adapters.
        pipeline: whose.
        partition: its day, or its key where rows carry their date.
        values: also what stands in them.

    Raises:
        ActionRefused: nothing of that partition is in quarantine.
    """
    snapshot, every = held(services, pipeline)
    mine = _one(pipeline, every, partition, "show")
    if mine.kept is None:
        return mine, []
    validated = quarantine.released(services, snapshot).get(mine.content, ())
    found = []
    for row in _read(services, mine.kept):
        if not excuses(validated, row["_object"], row["_row"], row["_reasons"]):
            inside = {name: value for name, value in row.items() if name not in _OURS} if values else None
            found.append(HeldRow(key=row["_key"], row=row["_row"], reasons=tuple(row["_reasons"]), values=inside))
    return mine, found


def release(
    services: Services, pipeline: Pipeline, partition: str, wanted: Sequence[str], *, actor: str, reason: str
) -> Release:
    """Give back a partition or rows of it: the next night that pins a snapshot reads them as a new version of the partition.

    Args:
        services: the adapters.
        pipeline: whose.
        partition: its day, or its key where rows carry their date.
        wanted: rows, as ``17`` or ``part-1.parquet:17``; none: all that is left out of the partition.
        actor: who decides.
        reason: why.

    Raises:
        ActionRefused: nothing of that is in quarantine, or it cannot be read together with the other partitions.
    """
    if not reason.strip():
        raise ActionRefused("release", pipeline.name, "say why; the reason is kept with the decision")
    _, every = held(services, pipeline)
    mine = _one(pipeline, every, partition, "release")
    unreadable = [str(found) for found in mine.reasons if not found.releasable]
    if unreadable:
        why = f"{mine.partition} cannot be read together with the other partitions: {unreadable[0]}. Mend it and land it again"
        raise ActionRefused("release", pipeline.name, why)
    chosen, reasons = None, {found.what for found in mine.reasons}
    if wanted:
        chosen, reasons = _chosen(services, pipeline, mine, wanted)
    made = Release(
        pipeline=pipeline.name,
        partition=mine.partition,
        day=mine.day,
        content=mine.content,
        rows=chosen,
        reasons=tuple(sorted(reasons)),
        actor=actor,
        reason=reason,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    key = layout.release(pipeline.name, mine.content, made.digest)
    services.store.create(key, made.model_dump_json(indent=1).encode())
    return made


def _chosen(
    services: Services, pipeline: Pipeline, mine: Held, wanted: Sequence[str]
) -> tuple[tuple[tuple[str, int], ...], set[str]]:
    """Find rows among those that are kept, and what is held against them."""
    if mine.kept is None:
        why = f"{mine.partition} is in quarantine as a whole; release all of it, or mend it and land it again"
        raise ActionRefused("release", pipeline.name, why)
    there = _read(services, mine.kept)
    rows: dict[tuple[str, int], None] = {}
    reasons: set[str] = set()
    for word in wanted:
        place, _, number = word.rpartition(":")
        fits = [
            row
            for row in there
            if str(row["_row"]) == number and (not place or f"/{row['_key']}".endswith(f"/{place}"))
        ]
        keys = {row["_key"] for row in fits}
        if len(keys) != 1:
            why = (
                f"row {word!r} stands in {len(keys)} files of {mine.partition}; name the file: {min(keys).rpartition('/')[2]}:{number}"
                if keys
                else f"no row {word!r} of {mine.partition} is in quarantine; `ratchet quarantine show {pipeline.name} {mine.partition}` names them"
            )
            raise ActionRefused("release", pipeline.name, why)
        rows[fits[0]["_object"], fits[0]["_row"]] = None
        reasons |= {what for row in fits for what in row["_reasons"]}
    return tuple(sorted(rows)), reasons


def _read(services: Services, kept: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq  # noqa: PLC0415  half a second that a list need not spend

    try:
        found: list[dict[str, Any]] = pq.read_table(io.BytesIO(services.store.get(kept))).to_pylist()
    except ObjectNotFound:
        return []
    return found


def _one(pipeline: Pipeline, every: Sequence[Held], partition: str, action: str) -> Held:
    found = next((mine for mine in every if mine.partition == partition), None)
    if found is None:
        names = ", ".join(mine.partition for mine in every[:_LISTED]) or "nothing"
        why = f"nothing of {partition!r} is in quarantine in the newest snapshot; there is: {names}"
        raise ActionRefused(action, pipeline.name, why)
    return found


def _context(services: Services, pipeline: Pipeline, snapshot: Snapshot) -> Context:
    request = NightRequest(pipeline=pipeline.name, cutoff=snapshot.cutoff)
    return Context(pipeline=pipeline, night=Night(request=request), services=services)


def _judged(ctx: Context, partitions: Sequence[Partition], releases: Mapping[str, Sequence[Release]]) -> Judged:
    return judge(ctx, partitions, releases, deviating(ctx, partitions, releases))


def _left_out(judged: Judged) -> dict[str, int]:
    found: list[QuarantinedPartition | Any] = [*judged.partitions, *judged.rows]
    return {left.partition: left.rows for left in found}
