"""What proves that the bytes that came are those that were stored, where their sha256 is not known yet.

An object says something about its own bytes: a checksum that its writer left, or an ETag that is the MD5 of the bytes (of
one part), or the MD5 of the parts' MD5s. ETags of objects under a KMS key or a customer's key are neither, and so are all
those of some stores. Where nothing is said, the length alone is known, and TLS has to do for the way.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MD5 = re.compile(r"[0-9a-f]{32}")
_MD5_OF_PARTS = re.compile(r"[0-9a-f]{32}-([1-9][0-9]*)")


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class Proof:
    """Follows bytes as they come, and says in the end whether they are what was said.

    Args:
        kind: what was said, for messages.
        expected: its digest.
        seen: what computes the same of the bytes.
        parts: how many parts there were, where the digest is of their digests.
    """

    def __init__(self, kind: str, expected: bytes, seen: _Hash, parts: int | None = None) -> None:
        self.kind = kind
        self.expected = expected
        self._seen = seen
        self._ending = f"-{parts}" if parts else ""
        self.update = seen.update

    def wrong(self) -> tuple[str, str] | None:
        """Return what was expected and what was found, where they differ."""
        found = self._seen.digest()
        if found == self.expected:
            return None
        return tuple(f"{self.kind} {digest.hex()}{self._ending}" for digest in (self.expected, found))  # type: ignore[return-value]

    @property
    def remedy(self) -> str:
        """What to do about bytes that are wrong."""
        said = "Restore it in the object store, or land it again"
        if self.kind != "ETag":
            return said
        return f"{said}; if this store's ETags are no MD5s of the bytes, set RATCHET_S3_ETAGS=opaque"


class Md5OfParts:
    """The ETag of an upload of parts: the MD5 of the MD5s of the parts."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._left = list(reversed(sizes))
        self._all: _Hash = _md5()
        self._part: _Hash = _md5()

    def update(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes."""
        rest = memoryview(data)
        while self._left and len(rest) >= self._left[-1]:
            end = self._left.pop()
            self._part.update(rest[:end])
            self._all.update(self._part.digest())
            self._part, rest = _md5(), rest[end:]
        self._part.update(rest)
        if self._left:
            self._left[-1] -= len(rest)

    def digest(self) -> bytes:
        """Return the MD5 of the MD5s."""
        return self._all.digest()


def proof(told: Mapping[str, Any], *, parts: Sequence[int] | None, md5_etags: bool) -> Proof | None:
    """Choose what proves an object's bytes.

    Args:
        told: a reply to ``GetObject`` or ``HeadObject``.
        parts: sizes of the parts that it was uploaded in, where that is known.
        md5_etags: whether the store's ETags are MD5s.
    """
    return _by_checksum(told) or (_by_etag(told, parts) if md5_etags else None)


def parts_of(told: Mapping[str, Any]) -> int | None:
    """Return of how many parts' MD5s the ETag is made; None where it is not."""
    match = _MD5_OF_PARTS.fullmatch(_etag(told))
    return int(match[1]) if match and not _opaque(told) else None


def needs_parts(told: Mapping[str, Any], *, md5_etags: bool) -> int | None:
    """Return how many parts' sizes must be known to prove an object's bytes; None where something else does, or nothing."""
    return parts_of(told) if md5_etags and not _by_checksum(told) else None


def _by_checksum(told: Mapping[str, Any]) -> Proof | None:
    """Use the writer's checksum of the whole object; one of the parts' checksums would need their sizes."""
    known: tuple[tuple[str, str, Any], ...] = (
        ("ChecksumSHA256", "SHA-256", hashlib.sha256),
        ("ChecksumSHA1", "SHA-1", lambda: hashlib.sha1(usedforsecurity=False)),
        ("ChecksumCRC32", "CRC-32", _Crc32),
    )
    for field, kind, made in known:
        value = str(told.get(field) or "")
        if value and "-" not in value and told.get("ChecksumType") != "COMPOSITE":
            return Proof(kind, base64.b64decode(value), made())
    return None


def _by_etag(told: Mapping[str, Any], parts: Sequence[int] | None) -> Proof | None:
    etag = _etag(told)
    if _opaque(told):
        return None
    if _MD5.fullmatch(etag):
        return Proof("ETag", bytes.fromhex(etag), _md5())
    if parts is not None and parts_of(told) == len(parts):
        return Proof("ETag", bytes.fromhex(etag.partition("-")[0]), Md5OfParts(parts), len(parts))
    return None


def _etag(told: Mapping[str, Any]) -> str:
    return str(told.get("ETag") or "").removeprefix("W/").strip('"')


def _opaque(told: Mapping[str, Any]) -> bool:
    return str(told.get("ServerSideEncryption") or "").startswith("aws:kms") or bool(told.get("SSECustomerAlgorithm"))


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")
