"""What is known to be broken in each partition, what is left out of a night because of it, and what people have given back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from ratchet.domain import layout
from ratchet.domain.quarantine import Broken, Release, excuses
from ratchet.domain.records import Record, digest
from ratchet.domain.snapshots import Pin
from ratchet.errors import ObjectNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratchet.domain.night import ValidateResult
    from ratchet.domain.quarantine import QuarantinedRows, Reason
    from ratchet.domain.snapshots import Snapshot
    from ratchet.steps.context import Context, Services

_PARALLEL = 8  # notes that are read at once


class Partition(Record):
    """The files that are validated as one batch, and the digest of their content."""

    name: str
    pins: tuple[Pin, ...]
    content: str

    @property
    def rows(self) -> int:
        """How many rows its readable files have."""
        return sum(pin.rows for pin in self.pins)

    @property
    def objects(self) -> tuple[str, ...]:
        """The sha256 of each object."""
        return tuple(pin.sha256 for pin in self.pins)


class Exclusions(NamedTuple):
    """What a night leaves out of its snapshot."""

    partitions: frozenset[str]  # by name
    rows: Mapping[tuple[str, str], tuple[int, ...]]  # rows, from 0, by partition and the object's sha256

    def of(self, pin: Pin) -> tuple[int, ...]:
        """Return the rows, from 0, that are left out of an object."""
        return self.rows.get((pin.partition_name, pin.sha256), ())


def partitions(pins: Sequence[Pin]) -> list[Partition]:
    """Group a snapshot's objects: one batch per day, or per object where rows carry their date."""
    made = []
    for name, group in groupby(pins, key=lambda pin: pin.partition_name):
        members = tuple(group)
        made.append(Partition(name=name, pins=members, content=digest(sorted(pin.sha256 for pin in members))))
    return made


def suite_key(ctx: Context) -> str:
    """Identify what decides a partition's result beside its content: the suite, how data is read, and what checks it."""
    return digest([ctx.pipeline.suite_digest, ctx.services.validator.version])


def broken(ctx: Context, wanted: Iterable[Partition]) -> dict[str, Broken]:
    """Return what is known to be broken, by content; rows whose file has been lost count as not named."""
    store, name, suite, there = ctx.services.store, ctx.pipeline.name, suite_key(ctx), _files(ctx)
    contents = [content for content in dict.fromkeys(p.content for p in wanted) if f"{content}.json" in there]
    with ThreadPoolExecutor(_PARALLEL) as pool:  # a window of a year may have a note on each of its days
        notes = pool.map(lambda content: store.get(layout.quarantine(name, suite, content)), contents)
        found = [Broken.model_validate_json(made) for made in notes]
    lost = {"kept": None, "broken": None}
    kept = (note if not note.kept or _name(note.kept) in there else note.model_copy(update=lost) for note in found)
    return {note.content: note for note in kept}


def noted(ctx: Context) -> set[str]:
    """Return the contents that have a note on what is broken in them."""
    return {name.removesuffix(".json") for name in _files(ctx) if name.endswith(".json")}


def _files(ctx: Context) -> set[str]:
    prefix = layout.quarantines(ctx.pipeline.name, suite_key(ctx))
    return {_name(stored.uri) for stored in ctx.services.store.list(prefix)}


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]


def note(ctx: Context, found: Broken) -> None:
    """Keep what is broken in a partition."""
    key = layout.quarantine(ctx.pipeline.name, suite_key(ctx), found.content)
    ctx.services.store.put(key, found.model_dump_json(indent=1).encode())


def unexcused(reasons: Sequence[Reason], releases: Sequence[Release]) -> tuple[Reason, ...]:
    """Return the reasons that still hold against a partition after what people have decided of it."""
    excused = {what for release in releases if release.rows is None for what in release.reasons}
    return tuple(reason for reason in reasons if not (reason.releasable and reason.what in excused))


def releases_of(ctx: Context, tables: Mapping[str, Sequence[Pin]]) -> dict[str, str]:
    """Return the partition that each decision is about which gives back rows of a snapshot, by the decision's digest."""
    names = {partition.content: partition.name for partition in partitions(tables["rows"])}
    prefix = layout.releases(ctx.pipeline.name)
    found = {}
    for stored in ctx.services.store.list(prefix):
        content, _, name = stored.uri[stored.uri.index(prefix) + len(prefix) :].partition("/")
        if content in names:
            found[name.removesuffix(".json")] = names[content]
    return dict(sorted(found.items()))


def released(services: Services, snapshot: Snapshot) -> dict[str, tuple[Release, ...]]:
    """Return the decisions that a snapshot takes into account, by the content that they are about."""
    found: dict[str, list[Release]] = {}
    if snapshot.releases:
        wanted = set(snapshot.releases)
        for partition in partitions(snapshot.tables["rows"]):
            if partition.content not in found:
                found[partition.content] = [
                    release
                    for release in _of_content(services, snapshot.pipeline, partition.content)
                    if release.digest in wanted
                ]
    return {content: tuple(releases) for content, releases in found.items() if releases}


def _of_content(services: Services, pipeline: str, content: str) -> list[Release]:
    stored = services.store.list(f"{layout.releases(pipeline)}{content}/")
    return [Release.model_validate_json(services.store.get(found.uri)) for found in stored]


def exclusions(services: Services, pipeline: str, validated: ValidateResult) -> Exclusions:
    """Return what a validated night leaves out.

    Raises:
        ObjectNotFound: the file that names the rows is gone.
    """
    rows: dict[tuple[str, str], tuple[int, ...]] = {}

    def left_out(kept: QuarantinedRows) -> list[tuple[str, int]]:
        keys = [layout.release(pipeline, kept.content, found) for found in kept.releases]
        releases = [Release.model_validate_json(services.store.get(key)) for key in keys]
        named = _named(services, kept.kept)
        return [(sha256, row - 1) for sha256, row, why in named if not excuses(releases, sha256, row, why)]

    with ThreadPoolExecutor(_PARALLEL) as pool:
        every = pool.map(left_out, validated.quarantined_rows)
        for kept, found in zip(validated.quarantined_rows, every, strict=True):
            for sha256, members in groupby(found, key=lambda row: row[0]):
                rows[kept.partition, sha256] = tuple(row for _, row in members)
    return Exclusions(frozenset(q.partition for q in validated.quarantined), rows)


def remaining(services: Services, found: Broken, releases: Sequence[Release]) -> int | None:
    """Count the broken rows of a partition that no release excuses; None where they have not been named."""
    if found.kept is None or found.broken is None:
        return None
    if not releases:
        return found.broken
    try:
        named = _named(services, found.kept)
    except ObjectNotFound:
        return None
    times = {sha: found.objects.count(sha) for sha in found.objects}
    return sum(times[sha] for sha, row, why in named if not excuses(releases, sha, row, why))


def _named(services: Services, kept: str) -> list[tuple[str, int, list[str]]]:
    """Read which rows a file of broken rows holds: the object's sha256, the row from 1, and the reasons; in order."""
    import io  # noqa: PLC0415

    import pyarrow.parquet as pq  # noqa: PLC0415  half a second that a night without broken rows need not spend

    table = pq.read_table(io.BytesIO(services.store.get(kept)), columns=["_object", "_row", "_reasons"])
    named = zip(*(table[name].to_pylist() for name in ("_object", "_row", "_reasons")), strict=True)
    return sorted({(sha, row): (sha, row, why) for sha, row, why in named}.values(), key=lambda found: found[:2])
