"""Pulls into the local cache from a real server: resumed, proved, and shared by processes that may be killed at any moment."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig

from ratchet.adapters.s3 import S3Store
from ratchet.domain.records import sha256
from ratchet.errors import ObjectChanged, ObjectCorrupt, ServiceError, ServiceRefused

MIB = 1 << 20
LARGE = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(20 * MIB // 32))  # more than two strides
SMALL = LARGE[: 3 * MIB]

FETCH = """
import sys
from pathlib import Path
from ratchet.adapters.s3 import S3Store
from ratchet.domain.snapshots import StoredObject
endpoint, bucket, cache, patience, *found = sys.argv[1:]
store = S3Store(endpoint, bucket, Path(cache), patience=float(patience))
print("begins", flush=True)
for path, sha in store.fetch([(StoredObject.model_validate_json(one), None) for one in found]):
    print(path, sha, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def behind(s3, s3_proxy, tmp_path):
    """The test's bucket, which keeps versions, as a client behind the proxy sees it."""
    s3.put("begin", b"")
    return S3Store(s3_proxy.address, s3.bucket, tmp_path / "behind", patience=2)


@pytest.fixture
def unversioned(s3, s3_proxy, tmp_path):
    """The test's bucket, which keeps no versions, as a client behind the proxy sees it."""
    s3.client.create_bucket(Bucket=s3.bucket)
    return S3Store(s3_proxy.address, s3.bucket, tmp_path / "behind", patience=2)


def listed(store, prefix):
    """Return what lies under a prefix as it is listed."""
    return list(store.list(prefix, versions=True))


def first(fault, then="pass"):
    """Return a fault that hits the first read of a body, and another for those after."""
    reads = []

    def hit(method, path, _before):
        if method != "GET" or "/k" not in path or "?versions" in path or "list-type" in path or "attributes" in path:
            return "pass"
        reads.append(path)
        return fault if len(reads) == 1 else then

    return hit


def in_parts(store, key, data, part=8 * MIB):
    """Upload as large objects are uploaded."""
    config = TransferConfig(multipart_threshold=1, multipart_chunksize=part)
    store.client.upload_fileobj(io.BytesIO(data), store.bucket, key, Config=config)


def fetching(endpoint, store, found, patience=30):
    """Start a process that fetches into the store's cache, and begins when it says so."""
    words = [endpoint, store.bucket, str(store.cache), str(patience), *(one.model_dump_json() for one in found)]
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begins\n"
    return process


def until(condition):
    """Wait for something that will be so."""
    while not condition():
        time.sleep(0.01)


def parts(store):
    """Return what lies in the cache of pulls that are not done."""
    return sorted(path.name for path in (store.cache / "parts").iterdir())


@pytest.mark.parametrize("upload", ["whole", "parts"])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_objects_of_any_size_come_whole(s3, data, upload):
    """What fits into memory and what does not, uploaded in one part or several, are the bytes that were stored."""
    s3.put("begin", b"")
    s3.put("k", data) if upload == "whole" else in_parts(s3, "k", data, 5 * MIB)
    ((path, sha),) = s3.fetch([(listed(s3, "k")[0], None)])
    assert sha == sha256(data)
    assert path.read_bytes() == data
    assert parts(s3) == []


def test_bytes_come_as_they_are_stored(s3):
    """An object that says that it is compressed is not expanded on the way."""
    s3.put("begin", b"")
    packed = gzip.compress(SMALL)
    s3.client.put_object(Bucket=s3.bucket, Key="k", Body=packed, ContentEncoding="gzip")
    ((path, sha),) = s3.fetch([(listed(s3, "k")[0], None)])
    assert (path.read_bytes(), sha) == (packed, sha256(packed))


# Broken off and resumed.


def test_a_large_body_that_breaks_off_goes_on_where_it_broke(s3, s3_proxy, unversioned):
    """The second request asks for what is missing and no more."""
    s3.put("k", LARGE)
    found = listed(unversioned, "k")[0]
    s3_proxy.fault, s3_proxy.sent = first("cut"), 0
    ((path, _),) = unversioned.fetch([(found, None)])
    assert path.read_bytes() == LARGE
    asked = [headers.get("range") for headers in s3_proxy.headers]
    assert asked[-1] == f"bytes={len(LARGE) // 2}-"
    assert s3_proxy.sent < 1.1 * len(LARGE)


def test_a_version_goes_on_where_it_broke_on_a_server_without_ranges_of_versions(s3, s3_proxy, behind):
    """Such a server sends a version whole; as long as it is the newest, its range is had by its ETag."""
    s3.put("k", LARGE)
    found = listed(behind, "k")[0]
    assert found.version
    s3_proxy.fault = first("cut")
    ((path, _),) = behind.fetch([(found, None)])
    assert path.read_bytes() == LARGE
    assert (s3_proxy.headers[-1]["range"], s3_proxy.headers[-1]["if-match"]) == (
        f"bytes={len(LARGE) // 2}-",
        found.etag,
    )


def test_a_version_that_was_overwritten_is_resumed_from_the_version(s3, s3_proxy, behind):
    """The rest of a pinned version never comes from what lies under the key by now."""
    s3.put("k", LARGE)
    found = listed(behind, "k")[0]
    s3.put("k", LARGE[::-1])
    s3_proxy.fault = first("cut")
    ((path, _),) = behind.fetch([(found, None)])
    assert path.read_bytes() == LARGE


def test_an_overwrite_in_the_middle_of_a_body_is_told(s3, s3_proxy, unversioned):
    """Where no versions are kept, the rest of another object is not put to the first half of this one."""
    s3.put("k", LARGE)
    found = listed(unversioned, "k")[0]
    hit = first("cut")

    def overwrite(method, path, before):
        fault = hit(method, path, before)
        if fault == "pass" and s3_proxy.headers[-1].get("range"):
            s3.put("k", LARGE[::-1])
        return fault

    s3_proxy.fault = overwrite
    with pytest.raises(ObjectChanged, match="has changed since it was pinned"):
        unversioned.fetch([(found, None)])
    assert parts(unversioned) == []


def test_a_server_that_ignores_conditions_is_looked_through(s3, s3_proxy, unversioned):
    """An object that was overwritten is told by the reply's own ETag, although the server sends it in spite of If-Match."""
    s3.put("k", SMALL)
    found = listed(unversioned, "k")[0]
    s3.put("k", SMALL[::-1])
    s3_proxy.without = {"if-match"}
    with pytest.raises(ObjectChanged, match="has changed since it was pinned"):
        unversioned.fetch([(found, None)])


def test_a_server_that_wants_bare_etags_is_given_them(s3, s3_proxy, unversioned):
    """Some servers know an ETag in If-Match only without its quotes."""
    s3.put("k", SMALL)
    s3.put("k2", LARGE)
    found = listed(unversioned, "k")
    s3_proxy.fault = lambda *_: 412 if '"' in s3_proxy.headers[-1].get("if-match", "") else "pass"
    assert [path.read_bytes() for path, _ in unversioned.fetch([(one, None) for one in found])] == [SMALL, LARGE]


@pytest.mark.parametrize("fault", ["stall", "drip"])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_body_that_stalls_is_asked_for_again(s3, s3_proxy, behind, data, fault):
    """Neither silence nor a byte now and then is waited for longer than patience lasts."""
    s3.put("k", data)
    found = listed(behind, "k")[0]
    s3_proxy.fault = first(fault)
    ((path, _),) = behind.fetch([(found, None)])
    assert path.read_bytes() == data


def test_a_body_that_always_stalls_is_given_up_and_resumed_later(s3, s3_proxy, unversioned):
    """After bounded tries the pull fails, may be tried again, and then goes on from what came."""
    s3.put("k", LARGE)
    found = listed(unversioned, "k")[0]
    s3_proxy.fault = first("stall", "stall")
    with pytest.raises(ServiceError, match=r"reading s3://.*/k failed") as caught:
        unversioned.fetch([(found, None)])
    assert caught.value.retryable
    assert parts(unversioned)
    s3_proxy.fault, s3_proxy.sent = first("pass"), 0
    ((path, _),) = unversioned.fetch([(found, None)])
    assert path.read_bytes() == LARGE
    assert s3_proxy.sent < len(LARGE) - 8 * MIB + 1000
    assert parts(unversioned) == []


@pytest.mark.parametrize("damage", ["none", "flipped", "longer", "notes"])
def test_a_process_that_is_killed_leaves_what_the_next_goes_on_from(s3, s3_proxy, unversioned, damage):
    """What a killed process has pulled is used as far as its notes vouch for it, and nothing else of it."""
    s3.put("k", LARGE)
    found = listed(unversioned, "k")[0]
    s3_proxy.fault = first("stall")
    process = fetching(s3_proxy.address, unversioned, [found])
    until(lambda: any(path.read_text().endswith("\n") for path in (unversioned.cache / "parts").glob("*.notes")))
    process.kill()
    process.communicate()
    (part,) = (path for path in (unversioned.cache / "parts").iterdir() if path.suffix != ".notes")
    if damage == "flipped":
        with part.open("r+b") as held:
            held.seek(MIB)
            held.write(bytes([LARGE[MIB] ^ 1]))
    if damage == "longer":
        with part.open("ab") as held:
            held.write(b"x" * (30 * MIB))
    if damage == "notes":
        part.with_name(f"{part.name}.notes").write_text("8388608 abc")
    s3_proxy.fault = first("pass")
    ((path, sha),) = unversioned.fetch([(found, None)])
    assert (path.read_bytes(), sha) == (LARGE, sha256(LARGE))
    asked = s3_proxy.headers[-1].get("range", "bytes=0-")
    resumed = int(asked.removeprefix("bytes=").removesuffix("-")) >= 8 * MIB
    assert resumed is (damage in {"none", "longer"})
    assert parts(unversioned) == []


# Damaged on the way, or at rest.


def stored(store, key, data, upload):
    """Store an object in one of the ways that say something of its bytes."""
    if upload == "parts":
        in_parts(store, key, data, 5 * MIB)
    elif upload == "checksum":
        told = {"ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode()}
        store.client.put_object(Bucket=store.bucket, Key=key, Body=data, **told)
    elif upload == "crc":
        store.client.put_object(Bucket=store.bucket, Key=key, Body=data, ChecksumAlgorithm="CRC32")
    else:
        store.put(key, data)


@pytest.mark.parametrize("upload", ["etag", "parts", "checksum", "crc"])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_flipped_bit_is_told_when_nobody_knows_the_digest_yet(s3, s3_proxy, behind, data, upload):
    """The ETag or the writer's checksum proves the first pull: once damaged is pulled again, twice the same is corrupt."""
    stored(s3, "k", data, upload)
    found = listed(behind, "k")[0]
    s3_proxy.fault = first("flip")
    ((path, _),) = behind.fetch([(found, None)])
    assert path.read_bytes() == data
    path.unlink()
    (behind.cache / "seen").rename(behind.cache / "forgotten")
    s3_proxy.fault = first("flip", "flip")
    kind = {"etag": "ETag", "parts": "ETag", "checksum": "SHA-256", "crc": "CRC-32"}[upload]
    with pytest.raises(ObjectCorrupt, match=f"/k is damaged: expected {kind} .*, found {kind} ") as caught:
        behind.fetch([(found, None)])
    assert ("RATCHET_S3_ETAGS" in str(caught.value)) is (kind == "ETag")
    assert not caught.value.retryable
    assert list((behind.cache / "objects").iterdir()) == []
    assert parts(behind) == []


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_store_whose_etags_are_made_up_can_be_used(s3, s3_proxy, tmp_path, data):
    """Where ETags are declared to be opaque they prove nothing, and the writer's checksums still do."""
    opaque = S3Store(s3_proxy.address, s3.bucket, tmp_path / "opaque", md5_etags=False)
    s3.put("k", data)
    s3_proxy.fault = first("flip")  # what nothing tells, nobody can find
    assert opaque.fetch([(listed(opaque, "k")[0], None)])[0][1] == sha256(data[:-1] + bytes([data[-1] ^ 1]))
    stored(s3, "k", data, "crc")
    s3_proxy.fault = first("flip")
    assert opaque.fetch([(listed(opaque, "k")[0], None)])[0][1] == sha256(data)


def test_a_record_that_is_damaged_on_the_way_is_read_again(s3, s3_proxy, behind):
    """What is read whole into memory is proved likewise."""
    s3.put("k", b"a record")
    s3_proxy.fault = first("flip")
    assert behind.get("k") == b"a record"
    s3_proxy.fault = first("flip", "flip")
    with pytest.raises(ObjectCorrupt, match="expected ETag"):
        behind.get("k")


def test_the_first_that_fails_ends_the_others(s3, s3_proxy, behind):
    """A refusal of one object is not found out only after all others were pulled."""
    for n in range(40):
        s3.put(f"k/{n:02d}", SMALL)
    found = listed(behind, "k/")
    s3_proxy.fault = lambda method, path, _: 403 if method == "GET" and "/k/00" in path else "pass"
    before = len(s3_proxy.seen)
    with pytest.raises(ServiceRefused, match=r"k/00.*403"):
        behind.fetch([(one, None) for one in found])
    assert len(s3_proxy.seen) - before < 30


# The cache.


def rotted(path, data):
    """Change a cached file as nothing that means well does: same length, same times."""
    about = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize("known", [False, True])
def test_a_cached_file_that_rotted_is_pulled_again(s3, s3_proxy, behind, known):
    """A bit that flipped in the cache is told, although length and time are what they were."""
    s3.put("k", SMALL)
    found = listed(behind, "k")[0]
    ((path, sha),) = behind.fetch([(found, None)])
    rotted(path, SMALL[:-1] + b"!")
    assert behind.fetch([(found, sha if known else None)]) == [(path, sha)]
    assert path.read_bytes() == SMALL
    rotted(path, SMALL[:-1] + b"!")
    s3_proxy.fault = lambda *_: 403
    with pytest.raises(ServiceRefused):
        behind.fetch([(found, sha)])
    assert not path.exists()


@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed", "half written"])
def test_a_cached_file_that_is_not_whole_is_pulled_again(s3, behind, damage):
    """Whatever happened to a cached file, it is used whole or not at all."""
    s3.put("k", SMALL)
    found = listed(behind, "k")[0]
    ((path, sha),) = behind.fetch([(found, None)])
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(
            {"truncated": SMALL[:-1], "emptied": b"", "half written": SMALL[:MIB] + bytes(2 * MIB)}[damage]
        )
    assert behind.fetch([(found, sha)]) == [(path, sha)]
    assert path.read_bytes() == SMALL


def test_what_is_cached_and_whole_is_not_asked_for(s3, s3_proxy, behind):
    """A second night pulls only what is new, also when the notes of the first are gone but the bytes are there."""
    for n in range(5):
        s3.put(f"k/{n}", SMALL[n:])
    known = [(found, None) for found in listed(behind, "k/")]
    before = behind.fetch(known)
    s3.put("k/new", b"new")
    found = [(one, None) for one in listed(behind, "k/")]
    s3_proxy.seen.clear()
    assert behind.fetch(found)[:5] == before
    assert [path.rpartition("?")[0] for _, path in s3_proxy.seen] == [f"/{s3.bucket}/k/new"]
    for note in (behind.cache / "verified").iterdir():
        note.unlink()
    s3_proxy.seen.clear()
    again = S3Store(s3_proxy.address, s3.bucket, behind.cache)
    assert again.fetch(found)[:5] == before
    assert s3_proxy.seen == []


def test_two_processes_share_a_cache_and_pull_large_objects_once(s3, s3_proxy, behind):
    """Who comes second waits for the bytes that are on their way, and both have them."""
    for n in range(3):
        s3.put(f"k/{n}", LARGE[n:])
    found = listed(behind, "k/")
    s3_proxy.sent = 0
    both = [fetching(s3_proxy.address, behind, found) for _ in range(2)]
    told = [process.communicate()[0] for process in both]
    assert (
        told[0]
        == told[1]
        == "".join(f"{behind.cache / 'objects' / sha256(LARGE[n:])} {sha256(LARGE[n:])}\n" for n in range(3))
    )
    assert all((behind.cache / "objects" / sha256(LARGE[n:])).read_bytes() == LARGE[n:] for n in range(3))
    assert s3_proxy.sent < 3.5 * len(LARGE)
    assert parts(behind) == []


def test_a_process_that_has_stopped_in_the_middle_of_a_pull_is_not_waited_for(s3, s3_proxy, behind):
    """It holds its lock and does not move on: another pulls by itself, and both end well."""
    s3.put("k", LARGE)
    found = listed(behind, "k")[0]
    s3_proxy.fault = first("stall")
    stopped = fetching(s3_proxy.address, behind, [found])
    until(lambda: any(path.read_text().endswith("\n") for path in (behind.cache / "parts").glob("*.notes")))
    stopped.send_signal(signal.SIGSTOP)
    ((path, _),) = behind.fetch([(found, None)])
    assert path.read_bytes() == LARGE
    s3_proxy.fault = first("pass")
    stopped.send_signal(signal.SIGCONT)
    stopped.kill()
    stopped.communicate()
    assert behind.fetch([(found, None)])[0][0].read_bytes() == LARGE


def test_a_cache_stays_under_its_cap(s3, tmp_path):
    """Each night's process gives up what was used longest ago, and never what it uses itself."""
    s3.put("begin", b"")
    for n in range(6):
        s3.put(f"k/{n}", LARGE[n : n + MIB])
    found = listed(s3, "k/")
    cache = tmp_path / "capped"
    for night in range(4):  # each reads three, of which two are known
        process = subprocess.run(
            [sys.executable, "-c", FETCH.replace("patience=", f"cap={4 * MIB}, patience="), s3._endpoint, s3.bucket, str(cache), "30"]
            + [one.model_dump_json() for one in found[night : night + 3]],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
        paths = [Path(line.split()[0]) for line in process.stdout.splitlines()[1:]]
        assert [path.stat().st_size for path in paths] == [MIB] * 3
        held = {path.name for path in (cache / "objects").iterdir()}
        assert len(held) <= 4
        assert {path.name for path in paths} <= held
    assert sha256(LARGE[:MIB]) not in held


def test_a_full_disk_rejects_and_leaves_nothing(s3, s3_proxy):
    """The disk of the cache is too small: the message says what is needed, what is free and what to change."""
    s3.put("k", LARGE)
    found = listed(s3, "k")[0]
    script = f"""
import sys
from pathlib import Path
from ratchet.adapters.s3 import S3Store
from ratchet.domain.snapshots import StoredObject
from ratchet.errors import DataRejected
from ratchet import local_cache
local_cache._SPARE = {{spare}}
cache = Path(sys.argv[1])
try:
    S3Store({s3._endpoint!r}, {s3.bucket!r}, cache).fetch([(StoredObject.model_validate_json(sys.argv[2]), None)])
except DataRejected as exc:
    print(exc)
    print(sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file() and path.parent.name != "users"))
"""
    for spare, word in ((0, "are to be pulled"), (-(1 << 40), "could not be kept: No space left on device")):
        ran = subprocess.run(
            ["unshare", "--mount", "--map-root-user", "sh", "-c",
             'mount -t tmpfs -o size=9m none /mnt && exec "$@"', "sh", sys.executable, "-c", script.replace("{spare}", str(spare)),
             "/mnt/cache", found.model_dump_json()],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "unshare" in ran.stderr or "mount" in ran.stderr:
            pytest.skip(f"no file system of one's own can be mounted here: {ran.stderr.strip()}")
        said, left = ran.stdout.splitlines()
        assert said.startswith("resource: ")
        assert word in said
        assert "RATCHET_CACHE" in said
        assert left == "['lock']"
