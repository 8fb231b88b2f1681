"""The local cache: a folder that processes share, kept under a cap by giving up what was used longest ago.

::

    objects/<sha256>             source objects, by content
    seen/<object version>        the sha256 of a version that was pulled before
    verified/<name>              a file's sha256, and its stat when that was told; the note's own time says when it was last used
    parts/                       large pulls that are under way, or were broken off
    tables/<sha256>-…, frames/, models/, summaries/    what was made of them, each known by content
    users/                       one file for each process, which is locked as long as that process lives
    lock                         held for a moment: shared to use what is here, alone to give something up

Everything here can be had again, so nothing here is trusted, notes included: a file whose stat is no longer what it was when it was hashed,
or that was hashed before the machine last started, is hashed anew before it is used, and dropped where it has rotted.

What a living process has used since it began is never given up, so that a path that was handed out stays good. One night
may therefore hold more than the cap; the next one gives that up.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ratchet.errors import DataRejected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MADE = ("tables", "frames", "models", "summaries")  # what others put here, by content
_ABANDONED = 2 * 24 * 3600.0  # seconds; a half file as old as this belongs to a process that was killed
_USES = 24 * 3600.0  # seconds; a process that lives longer holds no more than what was used within them
_FORGOTTEN = 180 * 24 * 3600.0  # seconds; notes on what nobody has asked for since are dropped
_PATIENCE = 30.0  # seconds to wait for another process that is at the cache
_SPARE = 64 << 20  # bytes that are left free on the disk
_CHUNK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOG = logging.getLogger(__name__)
_LOCK = threading.Lock()
_HERE: dict[
    Path, tuple[int, IO[bytes]]
] = {}  # by cache: this process's id, and the locked file that says that it lives


@dataclass
class _Entry:
    """What is given up together."""

    paths: list[Path] = field(default_factory=list)
    size: int = 0
    used: float = 0.0

    def add(self, path: Path, size: int, used: float) -> None:
        self.paths.append(path)
        self.size += size
        self.used = max(self.used, used)


def use(root: Path, *paths: Path) -> bool:
    """Say whether all these files or folders of a cache are there; if so, they stay as long as this process lives."""
    with _locked(root, fcntl.LOCK_SH):
        _live(root)
        try:
            for path in paths:
                os.utime(path)
        except FileNotFoundError:
            return False
    return True


def remember(root: Path, path: Path) -> None:
    """Remember the bytes of a file that was made here, so that rot can be told."""
    with path.open("rb") as made:
        sha = _digest(made)
    note = root / "verified" / path.name
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(note, f"{_look(path)} {sha}")


def intact(root: Path, path: Path) -> bool:
    """Say whether a file that was made here holds what was remembered of it; what has rotted is dropped."""
    note = root / "verified" / path.name
    try:
        sha = note.read_text().rpartition(" ")[2]
    except FileNotFoundError:
        return False
    return _is_sha(sha) and _whole(path, note, sha)  # of a note that is no note nobody can tell rot


class LocalCache:
    """Source objects by content, and the cap of the whole folder.

    Args:
        root: of the cache.
        cap: bytes that it may hold; None for as many as the disk does.
    """

    def __init__(self, root: Path, cap: int | None = None) -> None:
        self.root = root
        self.cap = cap

    def prepare(self) -> None:
        """Make the folders."""
        for name in ("objects", "seen", "verified", "parts", "users"):
            (self.root / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, sha: str) -> Path:
        """Return where the bytes of a sha256 lie, if they are here."""
        return self.root / "objects" / sha

    def part(self, version: str) -> Path:
        """Return where a large object version is put together."""
        return self.root / "parts" / version

    def seen(self, version: str) -> str | None:
        """Return the sha256 of an object version that was pulled before; versions and ETags do not change their bytes."""
        note = self.root / "seen" / version
        try:
            sha = note.read_text()
            os.utime(note)
        except FileNotFoundError:
            return None
        return sha if _is_sha(sha) else None

    def claim(self, shas: Sequence[str]) -> set[str]:
        """Return which of these are here, and keep them here as long as this process lives."""
        held = set()
        with _locked(self.root, fcntl.LOCK_SH):
            _live(self.root)
            for sha in shas:
                if self.path(sha).is_file():
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(self._note(sha))
                    held.add(sha)
        return held

    def whole(self, sha: str) -> bool:
        """Say whether the bytes that lie under a sha256 are those; what has rotted is dropped."""
        return _whole(self.path(sha), self._note(sha), sha)

    def keep(self, made: Path, sha: str, version: str) -> None:
        """Take a file whose bytes were hashed in, and remember of which object version they are."""
        made.replace(self.path(sha))
        _write(self._note(sha), f"{_look(self.path(sha))} {sha}")
        (self.root / "seen" / version).write_text(sha)

    def write(self, data: bytes | bytearray, sha: str, version: str) -> None:
        """Write bytes that were hashed, whole or not at all."""
        made = self.root / "objects" / f".new-{uuid.uuid4().hex}"
        try:
            with made.open("wb") as out:
                out.write(data)
            self.keep(made, sha, version)
        finally:
            made.unlink(missing_ok=True)

    def make_room(self, need: int) -> None:
        """Give up what was used longest ago until this many more bytes fit, under the cap and on the disk.

        Raises:
            DataRejected: ``resource``, when the disk would be full all the same.
        """
        with _locked(self.root, fcntl.LOCK_EX) as alone:
            held = self._give_up(need) if alone else 0
        if shutil.disk_usage(self.root).free < need + _SPARE:
            raise DataRejected(
                "resource",
                f"{need:,} bytes are to be pulled, and {_SPARE >> 20} MiB to be left free; {lacks_room(self.root)}",
            )
        if self.cap is not None and held + need > self.cap:
            _LOG.warning(
                "the cache %s comes to hold %.1f GiB, more than RATCHET_CACHE_GIB allows (%.1f): nights that run now use as much",
                self.root,
                (held + need) / (1 << 30),
                self.cap / (1 << 30),
            )

    def _give_up(self, need: int) -> int:
        """Remove what was used longest ago, and what nobody will ask for; return how many bytes are left."""
        _live(self.root)
        entries, protected = self._entries(), _since(self.root)
        held = sum(entry.size for entry in entries)
        free = shutil.disk_usage(self.root).free
        for entry in sorted(entries, key=lambda entry: entry.used):
            over = self.cap is not None and held + need > self.cap
            if not (over or free < need + _SPARE) or entry.used >= protected:
                break
            for path in entry.paths:
                _remove(path)
            held, free = held - entry.size, free + entry.size
        self._sweep()
        return held

    def _note(self, sha: str) -> Path:
        return self.root / "verified" / sha

    def _entries(self) -> list[_Entry]:
        """Return what the cache holds: an object with the tables made of it, a frame with its counts, a model's folder."""
        found: dict[str, _Entry] = {}
        for folder in ("objects", *_MADE):
            kind = "objects" if folder == "tables" else folder
            for path, about in _listed(self.root / folder):
                key = f"{kind}/{path.name.partition('.')[0].partition('-')[0]}"
                size = about.st_size
                if path.is_dir():
                    size = sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
                found.setdefault(key, _Entry()).add(path, size, about.st_mtime)
        for path, about in _listed(self.root / "verified"):
            if f"objects/{path.name}" in found:
                found[f"objects/{path.name}"].add(path, 0, about.st_mtime)
        return list(found.values())

    def _sweep(self) -> None:
        """Remove what processes that were killed have left, and notes that nobody asks for."""
        now = time.time()
        for folder in ("objects", "verified", "seen", *_MADE):
            for path, about in _listed(self.root / folder, hidden=True):
                if now - about.st_mtime > _ABANDONED:
                    _remove(path)
        for path, about in _listed(self.root / "parts"):
            if now - about.st_mtime > _ABANDONED:
                with contextlib.suppress(OSError), path.open("rb") as part:
                    fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where a process is at it
                    _remove(path)
        for folder in ("verified", "seen"):
            for path, about in _listed(self.root / folder):
                if now - about.st_mtime > _FORGOTTEN and not (folder == "verified" and self.path(path.name).exists()):
                    _remove(path)


def lacks_room(root: Path) -> str:
    """Say that a cache's disk is full, and what to do."""
    free = shutil.disk_usage(root).free
    return (
        f"the disk of the cache {root} has {free:,} bytes free. Free up space there, or point RATCHET_CACHE at a larger disk "
        "(and set RATCHET_CACHE_GIB to what it may hold)"
    )


@contextlib.contextmanager
def full_disk_rejects(root: Path, what: str) -> Iterator[None]:
    """Turn a disk that is full into a rejection that says so.

    Raises:
        DataRejected: ``resource``.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
        raise DataRejected("resource", f"{what} could not be kept: {exc.strerror}; {lacks_room(root)}") from exc


@contextlib.contextmanager
def _locked(root: Path, how: int) -> Iterator[bool]:
    """Hold the cache's lock, and say whether it was had: a process that was stopped while it held it must not stop all others."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (root / "lock").open("ab") as lock:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    yield False
                    return
                time.sleep(0.01)
        yield True


def _live(root: Path) -> None:
    """Note that this process uses the cache from now on; the note is locked, and a lock goes with its process."""
    users = root / "users"
    with _LOCK:
        pid, note = _HERE.get(root, (0, None))
        if pid == os.getpid() and note is not None and Path(note.name).exists():
            return  # a fork has another id, and begins anew
        users.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=users, prefix=f"{os.getpid()}-")
        os.close(handle)
        made = Path(name).open("rb")  # noqa: SIM115  it stays open as long as the process lives
        fcntl.flock(made, fcntl.LOCK_EX)
        _HERE[root] = (os.getpid(), made)


def _since(root: Path) -> float:
    """Return since when the oldest process that lives has used the cache; files of dead ones are removed."""
    now = time.time()
    began = now
    for path, about in _listed(root / "users"):
        try:
            with path.open("rb") as note:
                fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except BlockingIOError:
            began = min(began, max(about.st_mtime, now - _USES))
        except FileNotFoundError:
            continue
    return began


def _listed(folder: Path, *, hidden: bool = False) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what lies in a folder, or only what is hidden in it; what goes meanwhile is left out."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        for item in found:
            if item.name.startswith(".") is hidden:
                with contextlib.suppress(FileNotFoundError):
                    yield Path(item.path), item.stat(follow_symlinks=False)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _whole(path: Path, note: Path, sha: str) -> bool:
    """Say whether a file holds the bytes of a sha256: by its stat where that was noted, else by hashing it."""
    try:
        if note.read_text() == f"{_look(path)} {sha}":
            return True
    except FileNotFoundError:
        if not path.is_file():
            return False
    try:
        with path.open("rb") as held:
            found = _digest(held)
            hashed = os.fstat(held.fileno())
    except OSError as exc:  # such as a disk that cannot read a block
        _LOG.warning("%s in the cache cannot be read (%s); it is dropped, and had anew", path, exc.strerror)
        hashed, found = None, ""
    if found == sha:
        _write(note, f"{_look(path)} {sha}")
        return True
    if found:
        _LOG.warning("%s in the cache has rotted: its sha256 is %s now; it is dropped, and had anew", path, found)
    with contextlib.suppress(FileNotFoundError):
        if hashed is None or hashed.st_ino == path.stat().st_ino:  # unless another process has mended it meanwhile
            _remove(path)
    return False


def _write(note: Path, text: str) -> None:
    """Write a note at once: another process that read half of one would take the file for rotted, and drop it."""
    aside = note.with_name(f".new-{uuid.uuid4().hex}")
    try:
        aside.write_text(text)
        aside.replace(note)
    finally:
        aside.unlink(missing_ok=True)


def _look(path: Path) -> str:
    """Return what tells a file that nobody has touched since; bytes that are written change its ctime, which nobody can set."""
    about = path.stat()
    return f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino} {_boot()}"


@cache
def _boot() -> str:
    """Return which start of the machine this is: what was not on the disk when it went down is lost behind a right stat."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _digest(held: IO[bytes]) -> str:
    seen = hashlib.sha256()
    while chunk := held.read(_CHUNK):
        seen.update(chunk)
    return seen.hexdigest()


def _is_sha(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")  # noqa: PLR2004  hexadecimal digits of a sha256
