"""One suite for every ``ports.ObjectStore``: the one in memory and the one on a real S3 server."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from fakes import MemoryStore
from ratchet.domain.records import sha256
from ratchet.errors import AlreadyExists, ObjectChanged, ObjectCorrupt, ObjectNotFound

KINDS = ("memory", "s3")


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    """A store whose own bucket keeps versions and is not there yet."""
    return MemoryStore(tmp_path / "objects") if request.param == "memory" else request.getfixturevalue("s3")


@pytest.fixture(params=KINDS)
def unversioned(request, tmp_path):
    """A store whose own bucket keeps no versions."""
    if request.param == "memory":
        return MemoryStore(tmp_path / "objects", versioned=False)
    store = request.getfixturevalue("s3")
    store.client.create_bucket(Bucket=store.bucket)
    return store


def listed(store, key):
    """Return one object as the store lists it, with its version."""
    (found,) = [o for o in store.list(key, versions=True) if o.uri.endswith(f"/{key}")]
    return found


def remove(store, key):
    """Delete an object as a user would."""
    store.delete(key) if isinstance(store, MemoryStore) else store.client.delete_object(Bucket=store.bucket, Key=key)


def remove_version(store, key, found):
    """Delete the bytes of one version for good."""
    if isinstance(store, MemoryStore):
        held = store._objects[found.uri]
        held[:] = [v for v in held if v.version != found.version]
    else:
        store.client.delete_object(Bucket=store.bucket, Key=key, VersionId=found.version)


def test_what_is_put_is_got(store):
    """Bytes come back as they were written, and a second put replaces the first."""
    store.put("a/b", b"one")
    assert store.get("a/b") == b"one"
    store.put("a/b", b"two \x00\xff")
    assert store.get("a/b") == b"two \x00\xff"
    assert store.get(f"s3://{store.bucket}/a/b") == b"two \x00\xff"


def test_what_is_not_there_is_not_found(store):
    """Neither a missing object nor a missing bucket gives bytes."""
    with pytest.raises(ObjectNotFound, match="a/b does not exist"):
        store.get("a/b")
    store.put("a/other", b"x")
    with pytest.raises(ObjectNotFound, match="a/b does not exist"):
        store.get("a/b")


@pytest.mark.parametrize("versions", [False, True])
def test_a_prefix_is_listed_in_order(store, versions):
    """Every object under a prefix is listed once with its size, in order of its key, and nothing else."""
    for key in ("p/b", "p/a", "p/c/d", "p", "pp/x"):
        store.put(key, key.encode())
    store.put("p/a", b"longer than before")
    found = list(store.list("p/", versions=versions))
    assert [o.uri for o in found] == [f"s3://{store.bucket}/{key}" for key in ("p/a", "p/b", "p/c/d")]
    assert [o.size for o in found] == [18, 3, 5]
    assert all((o.version is not None) is versions for o in found)


@pytest.mark.parametrize("versions", [False, True])
def test_what_is_listed_says_when_it_was_written(store, versions):
    """Each object carries when the store took it, in UTC and to the second, and an overwrite moves that on."""
    before = datetime.now(UTC).replace(microsecond=0)
    store.put("p/a", b"x")
    (first,) = store.list("p/", versions=versions)
    store.put("p/a", b"y")
    (second,) = store.list("p/", versions=versions)
    taken = [datetime.fromisoformat(found.modified) for found in (first, second)]
    assert before <= taken[0] <= taken[1] <= datetime.now(UTC)
    assert {moment.utcoffset() for moment in taken} == {timedelta(0)}


@pytest.mark.parametrize("versions", [False, True])
def test_nothing_is_listed_where_nothing_is(store, versions):
    """The platform's own bucket is empty before it is made, and a prefix without objects is empty after."""
    assert list(store.list("p/", versions=versions)) == []
    store.put("q/a", b"x")
    assert list(store.list("p/", versions=versions)) == []


@pytest.mark.parametrize("versions", [False, True])
def test_what_was_deleted_is_not_listed(store, versions):
    """A deleted object is gone from lists, although its versions are kept."""
    store.put("p/a", b"x")
    remove(store, "p/a")
    assert list(store.list("p/", versions=versions)) == []
    with pytest.raises(ObjectNotFound):
        store.get("p/a")


def test_what_is_deleted_is_gone_and_may_be_deleted_again(store):
    """A delete frees the key alone, and one of what is not there is no error, in a bucket that is not there either."""
    store.delete("p/a")
    for key in ("p/a", "p/ab"):
        store.put(key, b"x")
    for _ in range(2):
        store.delete("p/a")
    assert [o.uri for o in store.list("p/")] == [f"s3://{store.bucket}/p/ab"]
    store.create("p/a", b"new")
    assert store.get("p/a") == b"new"


def test_a_conditional_put_writes_once(store):
    """The first creator wins, the second is told, and the bytes stay."""
    store.create("k", b"first")
    with pytest.raises(AlreadyExists, match="k exists already"):
        store.create("k", b"second")
    assert store.get("k") == b"first"


def test_creating_the_same_again_is_no_conflict(store):
    """Who creates exactly what is there has won before: that is what a put looks like whose reply was lost."""
    store.create("k", b"same")
    store.create("k", b"same")
    assert store.get("k") == b"same"


def test_of_racing_creators_exactly_one_wins(store):
    """Twenty-four at once on one key, in a bucket that none has made: one wins and its bytes are there."""
    won, lost, start = [], [], threading.Barrier(24)

    def create(number):
        start.wait()
        try:
            store.create("race", str(number).encode())
            won.append(number)
        except AlreadyExists:
            lost.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 23)
    assert store.get("race") == str(won[0]).encode()


def test_what_was_deleted_may_be_created_again(store):
    """A delete frees the key."""
    store.create("k", b"first")
    remove(store, "k")
    store.create("k", b"second")
    assert store.get("k") == b"second"


def test_a_store_that_honours_conditions_passes_the_probe(store):
    """The probe finds nothing wrong and leaves nothing behind."""
    store.probe()
    assert list(store.list("")) == []


def test_objects_are_fetched_by_content(store):
    """Fetched objects lie under their sha256, in the order in which they were asked for."""
    for key, data in (("a", b"alpha"), ("b", b"beta"), ("c", b"alpha")):
        store.put(key, data)
    fetched = store.fetch([(listed(store, key), None) for key in ("b", "a", "c")])
    assert [path.read_bytes() for path, _ in fetched] == [b"beta", b"alpha", b"alpha"]
    assert [sha for _, sha in fetched] == [sha256(b"beta"), sha256(b"alpha"), sha256(b"alpha")]
    assert fetched[1][0] == fetched[2][0]
    assert store.fetch([]) == []


def test_a_pinned_version_is_read_after_an_overwrite(store):
    """The version that was listed is what is fetched, whatever was put since, and also after a delete."""
    store.put("k", b"pinned")
    pinned = listed(store, "k")
    store.put("k", b"newer, and longer")
    assert store.fetch([(pinned, None)])[0][0].read_bytes() == b"pinned"
    remove(store, "k")
    assert store.fetch([(pinned, sha256(b"pinned"))])[0][0].read_bytes() == b"pinned"


def test_a_pinned_version_that_is_gone_is_not_found(store):
    """A version whose bytes were deleted is never made up for by the newest."""
    store.put("k", b"pinned")
    pinned = listed(store, "k")
    store.put("k", b"newest")
    remove_version(store, "k", pinned)
    with pytest.raises(ObjectNotFound, match=f"version {pinned.version} does not exist"):
        store.fetch([(pinned, None)])


def test_an_overwrite_without_versions_is_told(unversioned):
    """Where no versions are kept, an object that was replaced after it was listed is not read."""
    unversioned.put("k", b"pinned")
    pinned = listed(unversioned, "k")
    assert pinned.version is None
    unversioned.put("k", b"newest")
    with pytest.raises(ObjectChanged, match="has changed since it was pinned"):
        unversioned.fetch([(pinned, None)])


def test_an_object_that_is_gone_without_versions_is_not_found(unversioned):
    """Where no versions are kept, a deleted object cannot be had any more."""
    unversioned.put("k", b"pinned")
    pinned = listed(unversioned, "k")
    remove(unversioned, "k")
    with pytest.raises(ObjectNotFound):
        unversioned.fetch([(pinned, None)])


def test_bytes_that_are_not_those_of_the_digest_are_refused(store):
    """Who knows the sha256 gets those bytes or an error."""
    store.put("k", b"other")
    with pytest.raises(ObjectCorrupt, match=f"expected sha256 {sha256(b'expected')}"):
        store.fetch([(listed(store, "k"), sha256(b"expected"))])


def test_what_was_fetched_is_not_pulled_again(store):
    """Content that is known and cached is had without the store."""
    store.put("k", b"cached")
    pinned = listed(store, "k")
    ((path, sha),) = store.fetch([(pinned, None)])
    remove_version(store, "k", pinned)
    assert store.fetch([(pinned, sha)]) == [(path, sha)]


@pytest.mark.parametrize("key", ["with space", "plus+sign", "per%cent", "käse/ü.json", "a=b/c=d", "quote'\"", "a//b"])
def test_odd_keys_are_kept_as_they_are(store, key):
    """Keys with spaces, signs and umlauts are listed, read and fetched under their own name."""
    store.put(key, key.encode())
    found = listed(store, key)
    assert store.get(key) == key.encode()
    assert store.fetch([(found, None)])[0][0].read_bytes() == key.encode()


def test_nothing_is_an_object_too(store):
    """An object of no bytes is listed, read and fetched."""
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.fetch([(listed(store, "empty"), None)])[0][1] == sha256(b"")
