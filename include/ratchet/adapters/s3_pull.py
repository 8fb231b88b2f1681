"""Pulls of single objects into the local cache: resumed where they broke off, and proved before they are kept."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
import uuid
from typing import IO, TYPE_CHECKING, Any, Protocol

from ratchet.adapters import s3_proof
from ratchet.adapters.s3_errors import BACKOFF, TRIES, translated
from ratchet.domain.records import digest
from ratchet.errors import ObjectChanged, ObjectCorrupt, RatchetError, ServiceError
from ratchet.local_cache import full_disk_rejects

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ratchet.domain.snapshots import StoredObject
    from ratchet.local_cache import LocalCache

STRIDE = 8 << 20  # bytes; what is larger survives a process that is killed, up to the last whole stride
_CHUNK = 1 << 20
_LEAST = 64 << 10  # bytes that must come while patience lasts
_PARTIAL = 206  # HTTP status of a reply that is a range


class Stopped(Exception):
    """Another pull of the same fetch has failed."""


class _Broken(Exception):
    """A body broke off, or stalled, or a reply was of another length; what came is kept, and the rest asked for again.

    Args:
        why: in words, where no library's error says it.
        verdict: what to raise when it stays like this, where that is known.
    """

    def __init__(self, why: str = "", verdict: RatchetError | None = None) -> None:
        self.verdict = verdict
        super().__init__(why)


def version_id(found: StoredObject) -> str:
    """Name an object version, for files of its own."""
    return digest([found.uri, found.size, found.etag, found.version])


class Puller:
    """Pulls object versions; one for each fetch.

    Args:
        client: of boto3.
        cache: where the bytes go.
        patience: seconds without bytes, or with hardly any, after which a body has stalled.
        md5_etags: whether the store's ETags are MD5s, where they look like it.
        stop: set when the others should end.
    """

    def __init__(
        self, client: Any, cache: LocalCache, *, patience: float, md5_etags: bool, stop: threading.Event
    ) -> None:
        self.client = client
        self.cache = cache
        self.patience = patience
        self.md5_etags = md5_etags
        self.stop = stop
        self.bare_etags = False  # some servers want the ETag of If-Match without its quotes

    def pull(self, found: StoredObject, expected: str | None) -> str:
        """Bring one object version into the cache and return its sha256.

        Raises:
            ObjectChanged: it was overwritten.
            ObjectNotFound: it is gone.
            ObjectCorrupt: its bytes are not those that were stored.
            ServiceError: it did not come whole after bounded tries.
            DataRejected: ``resource``, when the disk is full.
        """
        with full_disk_rejects(self.cache.root, found.uri):
            if found.size <= STRIDE:
                return _Pull(self, found, expected, _InMemory(self.cache)).run()
            with _turn(self, found, expected) as turn:
                return turn if isinstance(turn, str) else _Pull(self, found, expected, turn).run()


class _Place(Protocol):
    """Where the bytes of one object come together."""

    def resume(self) -> Iterator[bytes]:
        """Yield what is here already."""

    def add(self, data: bytes, sha: Any) -> None:
        """Take the next bytes, after which all have this sha256."""

    def restart(self) -> None:
        """Drop everything."""

    def keep(self, sha: str, version: str) -> None:
        """Hand the whole over to the cache."""


class _InMemory:
    """A small object."""

    def __init__(self, cache: LocalCache) -> None:
        self._cache = cache
        self._data = bytearray()

    def resume(self) -> Iterator[bytes]:
        """Yield nothing."""
        return iter(())

    def add(self, data: bytes, sha: Any) -> None:  # noqa: ARG002  it is over too soon for a note
        """See ``_Place.add``."""
        self._data += data

    def restart(self) -> None:
        """See ``_Place.restart``."""
        self._data.clear()

    def keep(self, sha: str, version: str) -> None:
        """See ``_Place.keep``."""
        self._cache.write(self._data, sha, version)


class _OnDisk:
    """A large object: a file, and beside it notes of the sha256 after each stride, so that what is resumed is what came.

    A process that is killed leaves both. Whatever the file holds beyond the last note, or against it, is not believed.
    """

    def __init__(self, cache: LocalCache, path: Path, part: IO[bytes]) -> None:
        self.path = path
        self._cache = cache
        self._part = part
        self._notes = path.with_name(f"{path.name}.notes")
        self.noted = self._length = 0

    def resume(self) -> Iterator[bytes]:
        """Yield the file as far as a note vouches for it, and cut off the rest."""
        length, expected = self._last_note()
        sha = hashlib.sha256()
        for chunk in self._read(length):
            sha.update(chunk)
        if sha.hexdigest() == expected and os.fstat(self._part.fileno()).st_size >= length > 0:
            yield from self._read(length)
            self.noted = self._length = length
            self._part.seek(length)
            self._part.truncate()
        else:
            self.restart()

    def add(self, data: bytes, sha: Any) -> None:
        """See ``_Place.add``."""
        self._part.write(data)
        self._length += len(data)
        if self._length - self.noted >= STRIDE:
            self._part.flush()
            with self._notes.open("a") as notes:
                notes.write(f"{self._length} {sha.hexdigest()}\n")
            self.noted = self._length

    def restart(self) -> None:
        """See ``_Place.restart``."""
        self._notes.unlink(missing_ok=True)
        self._part.seek(0)
        self._part.truncate()
        self.noted = self._length = 0

    def keep(self, sha: str, version: str) -> None:
        """See ``_Place.keep``."""
        self._part.flush()
        self._cache.keep(self.path, sha, version)
        self._notes.unlink(missing_ok=True)

    def give_up(self) -> None:
        """Leave nothing."""
        self._notes.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _last_note(self) -> tuple[int, str]:
        with contextlib.suppress(FileNotFoundError, ValueError):
            whole = [line for line in self._notes.read_text().splitlines(keepends=True) if line.endswith("\n")]
            if whole:
                length, sha = whole[-1].split()
                return int(length), sha
        return 0, ""

    def _read(self, length: int) -> Iterator[bytes]:
        self._part.seek(0)
        while length > 0 and (chunk := self._part.read(min(_CHUNK, length))):
            length -= len(chunk)
            yield chunk


@contextlib.contextmanager
def _turn(puller: Puller, found: StoredObject, expected: str | None) -> Iterator[_OnDisk | str]:
    """Wait for the turn to pull a large object; yield its place, or its sha256 where another process was faster.

    Who pulls holds a lock, which goes with its process. One that has stopped without dying is not waited for for ever: then
    this process pulls by itself.
    """
    cache, version = puller.cache, version_id(found)
    path = cache.part(version)
    length, since = -1, time.monotonic()
    while (part := _locked(path)) is None:
        now = path.stat().st_size if path.exists() else -1
        if now != length:
            length, since = now, time.monotonic()
        if time.monotonic() - since > puller.patience:
            path = cache.part(f"{version}-{uuid.uuid4().hex}")
        elif puller.stop.wait(0.05):
            raise Stopped
    place = _OnDisk(cache, path, part)
    with part:
        try:
            sha = cache.seen(version)
            if sha is not None and expected in {None, sha} and cache.claim([sha]) and cache.whole(sha):
                place.give_up()
                yield sha
            else:
                yield place
        except BaseException as exc:
            resumable = isinstance(exc, ServiceError | Stopped) and not isinstance(exc, ObjectCorrupt | ObjectChanged)
            if not (resumable and place.noted and path == cache.part(version)):
                place.give_up()
            raise


def _locked(path: Path) -> IO[bytes] | None:
    """Open a part for this process alone; None while another has it."""
    while True:
        part = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            part.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(part.fileno()).st_ino:
                return part
        part.close()  # who had it has moved it into the cache


class _Pull:
    """One object version on its way."""

    def __init__(self, puller: Puller, found: StoredObject, expected: str | None, place: _Place) -> None:
        self._by = puller
        self._found = found
        self._expected = expected
        self._place = place
        bucket, _, key = found.uri.removeprefix("s3://").partition("/")
        self._ask = {"Bucket": bucket, "Key": key}
        self._told: Mapping[str, Any] | None = None  # what the store says of the object's bytes
        self._parts: list[int] | None = None
        self._begin()

    def run(self) -> str:
        """Pull, again where it breaks off or comes wrong, and return the sha256."""
        failures, before = 0, None
        if self._found.size > STRIDE:
            self._resume()
        while True:
            start = self._length
            try:
                self._receive()
            except _Broken as exc:
                failures = 1 if self._length - start >= STRIDE else failures + 1  # one that moves on is not given up
                if failures == TRIES:
                    raise exc.verdict or ServiceError(
                        "object store", f"reading {self._found.uri}", exc.__cause__ or exc
                    ) from exc
                if self._found.size <= STRIDE:  # to ask for the rest alone is not worth it
                    self._place.restart()
                    self._begin()
            else:
                sha, wrong = self._sha.hexdigest(), self._wrong()
                if wrong is None:
                    self._place.keep(sha, version_id(self._found))
                    return sha
                failures += 1
                if failures == TRIES or sha == before:  # the same twice: it was not the way that did it
                    raise ObjectCorrupt(self._found.uri, *wrong, remedy=self._proof.remedy if self._proof else "")
                before = None if self._measured() else sha
                self._place.restart()
                self._begin()
            self._pause(failures)

    def _begin(self) -> None:
        """Count from the first byte."""
        self._sha = hashlib.sha256()
        self._length = 0
        self._proof = None
        if self._told is not None:
            self._proof = s3_proof.proof(self._told, parts=self._parts, md5_etags=self._by.md5_etags)

    def _resume(self) -> None:
        """Go on from what an earlier process has left."""
        if self._expected is None:  # a range says nothing of the whole
            with self._translated():
                self._learn(self._head())
        for chunk in self._place.resume():
            self._count(chunk)

    def _learn(self, told: Mapping[str, Any]) -> None:
        """Choose what proves the bytes, before the first is counted."""
        self._told = told
        count = s3_proof.needs_parts(told, md5_etags=self._by.md5_etags)
        self._parts = self._sizes(count) if count else None
        self._begin()

    def _translated(self) -> contextlib.AbstractContextManager[None]:
        return translated(self._found.uri, f"reading {self._found.uri}", self._found)

    def _receive(self) -> None:
        """Take the bytes that are missing."""
        if self._length == self._found.size > 0:
            return
        with self._translated():
            reply, skip = self._open(self._length)
        with contextlib.closing(reply["Body"]) as body:
            if self._told is None and self._expected is None:
                with self._translated():
                    self._learn(reply)
            for chunk in self._chunks(body, skip + self._found.size - self._length):
                data = chunk[skip:] if skip else chunk
                skip = max(0, skip - len(chunk))
                if data:
                    self._count(data)
                    self._place.add(data, self._sha)

    def _count(self, data: bytes) -> None:
        self._sha.update(data)
        if self._proof:
            self._proof.update(data)
        self._length += len(data)

    def _chunks(self, body: Any, length: int) -> Iterator[bytes]:
        """Yield a body's bytes as they come.

        Raises:
            _Broken: it ends too soon, or hardly moves on.
        """
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        read: Callable[[int], bytes] = body._raw_stream.read1  # noqa: SLF001  the public ones wait until all they are asked for is there
        came, since = 0, time.monotonic()
        while length > 0:
            if self._by.stop.is_set():
                raise Stopped
            try:
                chunk = read(min(_CHUNK, length))
            except (BotoCoreError, HTTPError, OSError) as exc:
                raise _Broken from exc
            if not chunk:
                raise _Broken(f"it ended {length} bytes too soon")
            length -= len(chunk)
            came += len(chunk)
            yield chunk
            if came >= _LEAST:
                came, since = 0, time.monotonic()
            elif time.monotonic() - since > self._by.patience:
                raise _Broken(f"{came} bytes came in {self._by.patience:.0f} seconds")
        with contextlib.suppress(BotoCoreError, HTTPError, OSError):
            read(1)  # tells the connection that it is free again

    def _open(self, start: int) -> tuple[Any, int]:
        """Ask for the bytes from ``start``; return the reply, and how many bytes of it are to be skipped.

        Some servers do not know ranges of versions. While the version is still the newest, its range can be had by its ETag.
        """
        if start == 0:
            more = {} if self._expected else {"ChecksumMode": "ENABLED"}
            return self._checked(self._get(**more), 0), 0
        asked = {"Range": f"bytes={start}-"}
        reply = self._checked(self._get(**asked), start)
        if self._is_range(reply) or self._found.version is None:
            return reply, 0 if self._is_range(reply) else start
        reply["Body"].close()
        from botocore.exceptions import ClientError

        with contextlib.suppress(ClientError):  # it is not the newest any more
            newest = self._by_etag(**asked)
            if self._is_range(newest) and newest.get("VersionId") == self._found.version:
                return self._checked(newest, start), 0
            newest["Body"].close()
        return self._checked(self._get(), 0), start

    def _get(self, **more: str) -> Any:
        if self._found.version:
            return self._by.client.get_object(**self._ask, VersionId=self._found.version, **more)
        return self._by_etag(**more)

    def _by_etag(self, **more: str) -> Any:
        return self._if_match(self._by.client.get_object, **more)

    def _head(self, **more: Any) -> Any:
        ask = {"ChecksumMode": "ENABLED", **more}
        if self._found.version:
            return self._by.client.head_object(**self._ask, VersionId=self._found.version, **ask)
        return self._if_match(self._by.client.head_object, **ask)

    def _if_match(self, call: Callable[..., Any], **more: Any) -> Any:
        from botocore.exceptions import ClientError

        bare = self._found.etag.strip('"')
        try:
            return call(**self._ask, IfMatch=bare if self._by.bare_etags else self._found.etag, **more)
        except ClientError as exc:
            if exc.response["ResponseMetadata"]["HTTPStatusCode"] != 412 or bare == self._found.etag:  # noqa: PLR2004
                raise
        reply = call(**self._ask, IfMatch=bare, **more)
        self._by.bare_etags = True
        return reply

    def _is_range(self, reply: Any) -> bool:
        return bool(reply["ResponseMetadata"]["HTTPStatusCode"] == _PARTIAL)

    def _checked(self, reply: Any, start: int) -> Any:
        """Refuse a reply that is not of this object version, or of another length."""
        try:
            self._refuse_other(reply, start)
        except (RatchetError, _Broken):
            reply["Body"].close()
            raise
        return reply

    def _refuse_other(self, reply: Any, start: int) -> None:
        found = self._found
        pinned = ("version", found.version) if found.version else ("ETag", found.etag.strip('"'))
        told = str(reply.get("VersionId" if found.version else "ETag") or pinned[1]).removeprefix("W/").strip('"')
        if told != pinned[1]:  # the server has looked past the condition
            raise ObjectChanged(found.uri, " ".join(map(str, pinned)), told)
        if self._is_range(reply):
            expected, told = f"bytes {start}-{found.size - 1}/{found.size}", str(reply.get("ContentRange"))
        else:
            expected, told = f"{found.size} bytes", f"{reply.get('ContentLength', found.size)} bytes"
        if told != expected:
            raise _Broken(told, ObjectCorrupt(found.uri, expected, told))

    def _sizes(self, count: int) -> list[int] | None:
        """Return the sizes of the parts that an object was uploaded in, as far as the store tells.

        Not every store knows them, and to ask may be forbidden where to read is not. Almost all uploads are of even parts.
        """
        from botocore.exceptions import ClientError

        size = self._found.size
        if count == 1:
            return [size]
        with contextlib.suppress(ClientError):
            version = {"VersionId": self._found.version} if self._found.version else {}
            told = self._by.client.get_object_attributes(**self._ask, **version, ObjectAttributes=["ObjectParts"])
            sizes = [part["Size"] for part in told.get("ObjectParts", {}).get("Parts", ())]
            if len(sizes) == count and sum(sizes) == size:
                return sizes
        with contextlib.suppress(ClientError):
            first = self._head(PartNumber=1)
            even = first["ContentLength"]
            if first.get("PartsCount") == count and even * (count - 1) < size <= even * count:
                return [even] * (count - 1) + [size - even * (count - 1)]
        return None

    def _measured(self) -> bool:
        """Look at each part, where even ones were taken for granted; say whether they are not even."""
        if self._parts is None or len(self._parts) < 3:  # noqa: PLR2004  of two, the first tells the second
            return False
        from botocore.exceptions import ClientError

        with contextlib.suppress(ClientError), self._translated():
            sizes = [int(self._head(PartNumber=n)["ContentLength"]) for n in range(1, len(self._parts) + 1)]
            if sum(sizes) == self._found.size and sizes != self._parts:
                self._parts = sizes
                return True
        return False

    def _wrong(self) -> tuple[str, str] | None:
        sha = self._sha.hexdigest()
        if self._expected:
            return None if sha == self._expected else (f"sha256 {self._expected}", f"sha256 {sha}")
        return self._proof.wrong() if self._proof else None

    def _pause(self, failures: int) -> None:
        if self._by.stop.wait(BACKOFF * 2**failures):
            raise Stopped
