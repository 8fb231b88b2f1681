"""What an object says of its own bytes, and what is made of it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.adapters.s3_proof import needs_parts, proof

DATA = b"the bytes of an object"
MD5 = hashlib.md5(DATA).hexdigest()


def fed(found, data, steps=7):
    """Feed data in small pieces."""
    for start in range(0, len(data), steps):
        found.update(data[start : start + steps])
    return found


def coded(digest):
    """Render a checksum as the headers have it."""
    return base64.b64encode(digest).decode()


def etag_of_parts(data, sizes):
    """Return the ETag that S3 gives to an upload of parts of these sizes."""
    digests, start = b"", 0
    for size in sizes:
        digests += hashlib.md5(data[start : start + size]).digest()
        start += size
    return f'"{hashlib.md5(digests).hexdigest()}-{len(sizes)}"'


@given(
    data=st.binary(min_size=1, max_size=300), cuts=st.lists(st.integers(0, 300), max_size=6), steps=st.integers(1, 301)
)
def test_an_etag_of_parts_proves_the_bytes_however_they_come(data, cuts, steps):
    """Any parts, even or not, fed in any pieces: the right bytes are proved, and one flipped bit is not."""
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    sizes = [b - a for a, b in itertools.pairwise(edges)]
    told = {"ETag": etag_of_parts(data, sizes)}
    assert needs_parts(told, md5_etags=True) == len(sizes)
    assert fed(proof(told, parts=sizes, md5_etags=True), data, steps).wrong() is None
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    expected, found = fed(proof(told, parts=sizes, md5_etags=True), flipped, steps).wrong()
    assert expected == f"ETag {told['ETag'].strip(chr(34))}"
    assert found != expected
    assert found.endswith(f"-{len(sizes)}")


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"ETag": f'"{MD5}"'}, "ETag"),
        ({"ETag": MD5}, "ETag"),
        ({"ETag": f'W/"{MD5}"'}, "ETag"),
        ({"ETag": f'"{MD5}"', "ServerSideEncryption": "AES256"}, "ETag"),
        ({"ETag": "x", "ChecksumSHA256": coded(hashlib.sha256(DATA).digest())}, "SHA-256"),
        ({"ETag": "x", "ChecksumSHA1": coded(hashlib.sha1(DATA).digest())}, "SHA-1"),
        ({"ETag": "x", "ChecksumCRC32": coded(zlib.crc32(DATA).to_bytes(4, "big")), "ChecksumType": "FULL_OBJECT"}, "CRC-32"),
        (
            {"ETag": f'"{"0" * 32}"', "ServerSideEncryption": "aws:kms", "ChecksumSHA256": coded(hashlib.sha256(DATA).digest())},
            "SHA-256",
        ),
        ({"ETag": f'"{MD5}"', "ChecksumCRC32": "AAAAAA==-3", "ChecksumType": "COMPOSITE"}, "ETag"),
        ({"ETag": f'"{MD5}"', "ChecksumCRC64NVME": "AAAAAAAAAAA="}, "ETag"),
    ],
)  # fmt: skip
def test_what_proves_an_object(told, kind):
    """A checksum of the whole goes before the ETag, and either knows the right bytes from others."""
    found = proof(told, parts=None, md5_etags=True)
    assert found.kind == kind
    assert ("RATCHET_S3_ETAGS" in found.remedy) is (kind == "ETag")
    assert fed(found, DATA).wrong() is None
    assert fed(proof(told, parts=None, md5_etags=True), DATA[::-1]).wrong() is not None


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"ETag": '"something-else"'},
        {"ETag": f'"{MD5}"', "ServerSideEncryption": "aws:kms"},
        {"ETag": f'"{MD5}"', "ServerSideEncryption": "aws:kms:dsse"},
        {"ETag": f'"{MD5}"', "SSECustomerAlgorithm": "AES256"},
        {"ETag": f'"{MD5}-3"'},
        {"ETag": f'"{MD5}-3"', "ServerSideEncryption": "aws:kms"},
        {"ETag": "x", "ChecksumSHA256": "AAAA-2"},
    ],
)
def test_what_proves_nothing(told):
    """An ETag under a KMS or customer's key, one of parts that nobody knows, and a checksum of checksums prove nothing."""
    assert proof(told, parts=None, md5_etags=True) is None


def test_etags_that_are_made_up_prove_nothing():
    """Where a store's ETags are no MD5s, only checksums count, and no parts need to be known."""
    assert proof({"ETag": f'"{MD5}"'}, parts=None, md5_etags=False) is None
    assert needs_parts({"ETag": f'"{MD5}-2"'}, md5_etags=False) is None
    told = {"ETag": "x", "ChecksumSHA256": coded(hashlib.sha256(DATA).digest())}
    assert fed(proof(told, parts=None, md5_etags=False), DATA).wrong() is None
