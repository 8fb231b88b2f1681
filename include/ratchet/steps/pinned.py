"""Snapshots after their nights: found again, compared, fetched byte for byte, and held against what the store still has."""

from __future__ import annotations

import hashlib
import re
import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.night import Night
from ratchet.domain.records import Record
from ratchet.domain.snapshots import Snapshot, difference
from ratchet.errors import (
    ArtifactTampered,
    DataRejected,
    ObjectChanged,
    ObjectCorrupt,
    ObjectNotFound,
    UsageError,
)
from ratchet.steps import quarantine
from ratchet.steps.pulls import pull_pinned, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ratchet.domain.snapshots import Pin, SnapshotDiff
    from ratchet.ports import ObjectStore
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services

_SHORTEST = 6  # characters of a digest that still tell snapshots apart
_AT_ONCE = 64  # objects
_BYTES_AT_ONCE = 512 << 20
_CHUNK = 1 << 20
_LONGEST = 80  # characters of a file's name that are kept
MANIFEST = "snapshot.json"


class FetchedFile(Record):
    """One file of a fetched snapshot."""

    path: str  # below the folder
    table: str
    day: date | None
    uri: str
    version: str | None
    size: int
    sha256: str


class Fetched(Record):
    """A snapshot in a folder."""

    pipeline: str
    snapshot: str  # digest
    cutoff: date
    files: tuple[FetchedFile, ...]


class Broken(Record):
    """A pinned object that cannot be had any more as it was."""

    table: str
    uri: str
    version: str | None
    problem: str


def load(services: Services, pipeline: str, digest: str) -> Snapshot:
    """Read a snapshot by its digest.

    Raises:
        ObjectNotFound: there is none.
        ArtifactTampered: it is not what its digest says.
    """
    key = layout.snapshot(pipeline, digest)
    found = Snapshot.model_validate_json(services.store.get(key))
    if found.digest != digest:
        raise ArtifactTampered(f"snapshot manifest {key}", digest, found.digest)
    return found


def find(services: Services, pipeline: Pipeline, wanted: str | date | None) -> Snapshot:
    """Return the snapshot of a night, or of a digest's first characters; by default that of the newest night that has one.

    Raises:
        UsageError: there is none, or several begin so.
    """
    if isinstance(wanted, str):
        return load(services, pipeline.name, _whole(services, pipeline.name, wanted))
    days = [wanted] if wanted else _days(services, pipeline)
    for day in days:
        digest = _of_night(services, pipeline, day)
        if digest:
            return load(services, pipeline.name, digest)
    raise UsageError(
        f"no night of {pipeline.name} with cutoff {wanted} has a snapshot on record; `ratchet history {pipeline.name}` lists its nights"
        if wanted
        else f"no night of {pipeline.name} has a snapshot on record yet; `ratchet run {pipeline.name} --cutoff …` makes one"
    )


def before(services: Services, pipeline: Pipeline, snapshot: Snapshot) -> Snapshot | None:
    """Return the snapshot of the newest night before a snapshot's own that has one."""
    for day in _days(services, pipeline):
        digest = _of_night(services, pipeline, day) if day < snapshot.cutoff else None
        if digest and digest != snapshot.digest:
            return load(services, pipeline.name, digest)
    return None


def changes(services: Services, earlier: Snapshot | None, snapshot: Snapshot) -> SnapshotDiff:
    """Say what has changed since an earlier snapshot."""
    given = quarantine.released(services, snapshot)
    return difference(earlier, snapshot, {r.digest: r.partition for releases in given.values() for r in releases})


def fetch(services: Services, snapshot: Snapshot, folder: Path, say: Callable[[str], None]) -> Fetched:
    """Bring every byte of a snapshot into a folder, under names that are safe on any machine, with a list of what is what.

    What is there already and right is left as it is, so that a fetch that broke off goes on where it was.

    Raises:
        DataRejected: ``snapshot_gone``, ``changed``, ``corrupt``: a pinned object cannot be had any more.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files: list[FetchedFile] = []
    for batch in _batches(snapshot):
        made = [_file(table, pin) for table, pin in batch]
        missing = [
            (pin, folder / file.path)
            for (_, pin), file in zip(batch, made, strict=True)
            if not _holds(folder / file.path, pin.sha256)
        ]
        for (pin, path), source in zip(missing, _pulled(services.store, [p for p, _ in missing]), strict=True):
            _copy(source, path, pin)
        files += made
        say(f"{len(files)} of {sum(map(len, snapshot.tables.values()))} objects")
    fetched = Fetched(pipeline=snapshot.pipeline, snapshot=snapshot.digest, cutoff=snapshot.cutoff, files=tuple(files))
    (folder / MANIFEST).write_text(fetched.model_dump_json(indent=1) + "\n")
    return fetched


def verify(
    snapshot: Snapshot, empty: Callable[[Path], ObjectStore], scratch: Path, say: Callable[[str], None]
) -> tuple[Broken, ...]:
    """Pull every pinned version again, past every cache, and say which of them are not what they were.

    Args:
        snapshot: what is looked at.
        empty: builds the store over a cache folder in which nothing lies yet.
        scratch: where such folders are made and removed again.
        say: hears how far it is.
    """
    broken: list[Broken] = []
    done = 0
    for batch in _batches(snapshot):
        with tempfile.TemporaryDirectory(dir=scratch, prefix=".verify-") as folder:
            broken += _broken(empty(Path(folder)), batch)
        done += len(batch)
        say(f"{done} of {sum(map(len, snapshot.tables.values()))} objects, {len(broken)} not as they were")
    return tuple(broken)


def _broken(store: ObjectStore, batch: Sequence[tuple[str, Pin]]) -> Iterator[Broken]:
    """Pull a batch at once, and where that fails one by one, so that each object is told apart."""
    try:
        store.fetch([(stored(pin), pin.sha256) for _, pin in batch])
    except (ObjectNotFound, ObjectChanged, ObjectCorrupt) as exc:
        if len(batch) == 1:
            table, pin = batch[0]
            yield Broken(table=table, uri=pin.uri, version=pin.version, problem=_problem(pin, exc))
            return
        for one in batch:
            yield from _broken(store, [one])


def _problem(pin: Pin, exc: Exception) -> str:
    if isinstance(exc, ObjectNotFound):
        return "this version is gone" if pin.version else "it is gone"
    if isinstance(exc, ObjectChanged):
        return "it was overwritten, and the bucket keeps no versions"
    return f"its bytes are others: expected sha256 {pin.sha256}"


def _pulled(store: ObjectStore, pins: Sequence[Pin]) -> list[Path]:
    return [path for path, _ in pull_pinned(store, pins, "fetch another snapshot")]


def _copy(source: Path, path: Path, pin: Pin) -> None:
    """Copy a file and hash what is written; it takes its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside, seen = path.with_name(f".{path.name}.part"), hashlib.sha256()
    try:
        with source.open("rb") as from_cache, aside.open("wb") as out:
            while chunk := from_cache.read(_CHUNK):
                seen.update(chunk)
                out.write(chunk)
        if seen.hexdigest() != pin.sha256:
            raise DataRejected(
                "corrupt",
                f"{pin.uri} has the sha256 {seen.hexdigest()} in the local cache ({source}), pinned was {pin.sha256}; remove "
                "that file, then fetch again",
            )
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _holds(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _file(table: str, pin: Pin) -> FetchedFile:
    """Name a file by table, day, what it was called, and its content: no key leads out of the folder or hides another file."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", pin.key.rpartition("/")[2])[-_LONGEST:].strip("._-") or "object"
    stem, dot, ending = name.partition(".")
    path = f"{table}/{pin.day or 'undated'}/{stem}-{pin.sha256[:16]}{dot}{ending}"
    return FetchedFile(
        path=path, table=table, day=pin.day, uri=pin.uri, version=pin.version, size=pin.size, sha256=pin.sha256
    )


def _batches(snapshot: Snapshot) -> Iterator[list[tuple[str, Pin]]]:
    """Cut a snapshot into pieces that fit on a small disk."""
    batch: list[tuple[str, Pin]] = []
    for table, pins in snapshot.tables.items():
        for pin in pins:
            if batch and (len(batch) == _AT_ONCE or sum(p.size for _, p in batch) + pin.size > _BYTES_AT_ONCE):
                yield batch
                batch = []
            batch.append((table, pin))
    if batch:
        yield batch


def _whole(services: Services, pipeline: str, start: str) -> str:
    """Return the one digest that begins so."""
    if not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST},64}}", start):
        raise UsageError(
            f"{start!r}: expected the first characters of a snapshot's digest, {_SHORTEST} or more of 0-9 and a-f"
        )
    prefix = layout.snapshot(pipeline, start).removesuffix(".json")
    found = [s.uri.rpartition("/")[2].removesuffix(".json") for s in services.store.list(prefix)]
    if len(found) != 1:
        words = (
            f"{len(found)} snapshots of {pipeline} begin so; give more of it"
            if found
            else f"no snapshot of {pipeline} begins so"
        )
        raise UsageError(f"{start}: {words}")
    return found[0]


def _days(services: Services, pipeline: Pipeline) -> list[date]:
    """Return the cutoffs of all nights on record, newest first."""
    name = pipeline.name
    days = {
        s.uri.rpartition("/")[2].removesuffix(".json") for s in services.store.list(layout.pins(name, pipeline.scope))
    }
    days |= {s.uri.split("/")[-2] for s in services.store.list(layout.nights(name))}
    return sorted((date.fromisoformat(day) for day in days), reverse=True)


def _of_night(services: Services, pipeline: Pipeline, day: date) -> str | None:
    """Return the digest of a night's snapshot: what it is pinned to, or what its record says."""
    try:
        return services.store.get(layout.pinned(pipeline.name, pipeline.scope, day)).decode()
    except ObjectNotFound:
        pass
    nights = (_night(services.store, s.uri) for s in services.store.list(f"{layout.nights(pipeline.name)}{day}/"))
    found = [night for night in nights if night and night.snapshot]
    newest = max(found, key=lambda night: (not night.request.dry_run, night.started), default=None)
    return newest.snapshot.digest if newest and newest.snapshot else None


def _night(store: ObjectStore, uri: str) -> Night | None:
    try:
        return Night.model_validate_json(store.get(uri))
    except (ValidationError, ObjectNotFound):  # of another version of Ratchet
        return None
