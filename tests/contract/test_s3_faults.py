"""S3Store on a server that is broken in one way at a time: what can pass is tried again, and nothing is read half."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ratchet.adapters.s3 import S3Store
from ratchet.domain.records import sha256
from ratchet.errors import (
    AlreadyExists,
    ConditionalWritesIgnored,
    ObjectCorrupt,
    ObjectNotFound,
    ServiceError,
    ServiceRefused,
)

BODY = bytes(range(256)) * 4000  # about a megabyte, so that half of it is sent before the rest is missing


@pytest.fixture
def behind(s3, s3_proxy, tmp_path):
    """The test's bucket as a client behind the proxy sees it."""
    s3.put("k", BODY)
    return S3Store(s3_proxy.address, s3.bucket, tmp_path / "behind")


def once(fault, method="GET"):
    """Return a fault that hits the first such request only."""
    return lambda found, _path, before: fault if found == method and before == 0 else "pass"


def always(fault, method="GET"):
    """Return a fault that hits every such request."""
    return lambda found, _path, _before: fault if found == method else "pass"


def pinned(store):
    """Return the object of the tests as it is listed."""
    (found,) = store.list("k", versions=True)
    return found


def test_more_keys_than_a_page_holds(s3):
    """All pages are read, in order, with and without versions."""
    keys = [f"many/{n:04d}" for n in range(1003)]
    s3.put(keys[0], b"old")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put(key, b"x"), keys))
    for versions in (False, True):
        assert [o.uri.rpartition(f"{s3.bucket}/")[2] for o in s3.list("many/", versions=versions)] == keys


@pytest.mark.parametrize("versions", [False, True])
@pytest.mark.parametrize("fault", ["cut", 503, "drop"])
def test_a_listing_that_breaks_off_is_asked_for_again(behind, s3_proxy, fault, versions):
    """Half a page of a listing is never taken for the whole, and no key is missed or told twice."""
    s3_proxy.fault = once(fault)
    assert [found.size for found in behind.list("", versions=versions)] == [len(BODY)]


def test_a_body_that_breaks_off_is_read_again(behind, s3_proxy):
    """Half a body is never taken for the whole: the read is tried again, and nothing half is left in the cache."""
    found = pinned(behind)
    s3_proxy.fault = once("cut")
    assert behind.get("k") == BODY
    s3_proxy.seen.clear()
    ((path, sha),) = behind.fetch([(found, None)])
    assert path.read_bytes() == BODY
    assert sha == sha256(BODY)
    assert len(s3_proxy.seen) == 2
    assert [p.name for p in path.parent.iterdir()] == [sha]


def test_a_body_that_always_breaks_off_is_an_error_that_may_pass(behind, s3_proxy):
    """After a bounded number of tries the read fails, is worth a retry, and leaves nothing behind."""
    found = pinned(behind)
    s3_proxy.fault, before = always("cut"), len(s3_proxy.seen)
    with pytest.raises(ServiceError, match="reading s3://") as caught:
        behind.fetch([(found, None)])
    assert caught.value.retryable
    assert len(s3_proxy.seen) - before == 4
    assert list((behind.cache / "objects").iterdir()) == []


def test_a_flipped_byte_is_read_again_where_the_digest_is_known(behind, s3_proxy):
    """Bytes that were damaged on the way are not taken for those that were pinned."""
    found = pinned(behind)
    s3_proxy.fault = once("flip")
    assert behind.fetch([(found, sha256(BODY))])[0][0].read_bytes() == BODY
    (behind.cache / "objects" / sha256(BODY)).unlink()
    s3_proxy.fault = always("flip")
    with pytest.raises(ObjectCorrupt, match="bytes were not used"):
        behind.fetch([(found, sha256(BODY))])
    assert list((behind.cache / "objects").iterdir()) == []


def test_an_object_of_another_length_is_not_the_one_that_was_listed(behind):
    """The size of the listing and the bytes that came must agree."""
    with pytest.raises(ObjectCorrupt, match=f"expected 7 bytes, found {len(BODY)} bytes"):
        behind.fetch([(pinned(behind).model_copy(update={"size": 7}), None)])


def test_a_refusal_is_not_asked_again(behind, s3_proxy):
    """403 means no: one request, and an error that is not retried."""
    s3_proxy.fault, before = always(403), len(s3_proxy.seen)
    with pytest.raises(ServiceRefused, match="403") as caught:
        behind.get("k")
    assert not caught.value.retryable
    assert len(s3_proxy.seen) - before == 1


@pytest.mark.parametrize("fault", [503, 500, "drop"])
def test_a_server_that_is_busy_for_a_moment(behind, s3_proxy, fault):
    """An error of the server, or no reply at all, is tried again."""
    s3_proxy.fault = once(fault)
    assert behind.get("k") == BODY


def test_a_conditional_put_whose_reply_was_lost_has_won(behind, s3_proxy):
    """The put arrives, its reply does not, and the second try meets the first: that is a success."""
    s3_proxy.fault = once("drop", "PUT")
    behind.create("new", b"mine")
    assert [method for method, path in s3_proxy.seen if path.endswith("/new")][:2] == ["PUT", "PUT"]
    assert behind.get("new") == b"mine"


def test_a_conditional_put_that_lost_stays_lost_although_its_reply_was_too(behind, s3, s3_proxy):
    """Somebody else's bytes are not mistaken for a lost reply."""
    s3.put("new", b"theirs")
    s3_proxy.fault = once("drop", "PUT")
    with pytest.raises(AlreadyExists):
        behind.create("new", b"mine")
    assert behind.get("new") == b"theirs"


def test_a_conditional_put_that_conflicts_with_one_that_fails_is_tried_again(behind, s3_proxy):
    """409 says that another put is under way; when that one comes to nothing, ours is made."""
    s3_proxy.fault = once(409, "PUT")
    behind.create("new", b"mine")
    assert behind.get("new") == b"mine"


def test_a_store_that_ignores_conditions_is_found_out(behind, s3_proxy):
    """A server that says yes to both of two conditional puts is named, with what that means."""
    s3_proxy.fault = lambda *_: 200
    with pytest.raises(ConditionalWritesIgnored, match=f"{s3_proxy.address} ignores conditional writes"):
        behind.probe()


def test_a_source_bucket_that_is_missing_is_named(s3):
    """Only the platform's own bucket is made; another that is missing is a mistake in the spec."""
    with pytest.raises(ObjectNotFound, match="bucket s3://no-such-bucket-here does not exist"):
        list(s3.list("s3://no-such-bucket-here/rows/"))
    with pytest.raises(ObjectNotFound, match="bucket s3://no-such-bucket-here does not exist"):
        s3.put("s3://no-such-bucket-here/rows/a", b"x")


def test_the_bucket_that_is_made_keeps_versions(s3):
    """The platform's own bucket is made by the first write, and remembers what is overwritten."""
    s3.put("k", b"one")
    assert s3.client.get_bucket_versioning(Bucket=s3.bucket)["Status"] == "Enabled"


def test_unfinished_uploads_are_not_listed(s3):
    """An upload of many parts that was never completed is no object."""
    s3.put("up/whole", b"x")
    upload = s3.client.create_multipart_upload(Bucket=s3.bucket, Key="up/half")
    s3.client.upload_part(Bucket=s3.bucket, Key="up/half", UploadId=upload["UploadId"], PartNumber=1, Body=b"half")
    for versions in (False, True):
        assert [o.uri for o in s3.list("up/", versions=versions)] == [f"s3://{s3.bucket}/up/whole"]
