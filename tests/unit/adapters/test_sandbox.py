"""A sandbox reads the source where it lies and keeps all else in its folder."""

from __future__ import annotations

from datetime import date

import pytest

from fakes import MemoryStore
from ratchet.adapters.sandbox import FolderRegistry, FolderStore
from ratchet.domain.models import Feature, ModelFiles, ModelSchema
from ratchet.errors import AlreadyExists, ArtifactTampered, ObjectNotFound

SCHEMA = ModelSchema(task="binary", features=(Feature(name="x", kind="number"),), classes=("0", "1"), best_iteration=3)
FILES = ModelFiles(booster=b"\x00booster\xff", features="SELECT row_id, x FROM rows", schema_=SCHEMA)


@pytest.fixture
def real(tmp_path) -> MemoryStore:
    """A real store with a source in the lake and one in the platform's own bucket."""
    store = MemoryStore(tmp_path / "objects")
    for uri in ("s3://lake/rows/a", "sales/b", "ledger/p/00000001.json", "pins/p/x"):
        store.put(uri, uri.encode())
    return store


@pytest.fixture
def store(real, tmp_path) -> FolderStore:
    """A sandbox over it."""
    return FolderStore(tmp_path / "own", tmp_path / "shared", real, ["s3://lake/rows/", "sales/"])


def facts(run_key: str) -> dict[str, str]:
    """Return what a version is registered with."""
    days = {"seen_through": "2024-01-07", "cutoff": "2024-01-10"}
    return {"run_key": run_key, "artifact_digest": FILES.digest, "recipe": "r", "recipe_spec": "s", **days}


def test_the_source_is_read_where_it_lies_and_nothing_else_is(store, real):
    """Objects of the source are those of the real store; its ledger and pins are not there at all."""
    assert [o.uri for o in store.list("s3://lake/rows/")] == ["s3://lake/rows/a"]
    assert store.get("sales/b") == b"sales/b"
    found = list(store.list("sales/", versions=True))
    assert store.fetch([(found[0], None)]) == real.fetch([(found[0], None)])
    assert list(store.list("ledger/p/")) == []
    with pytest.raises(ObjectNotFound):
        store.get("ledger/p/00000001.json")


def test_what_is_written_stays_in_the_folder(store, real):
    """The real store does not change, and the source cannot be written."""
    before = real.contents()
    store.put("ledger/p/00000001.json", b"mine")
    store.put("pins/p/x", b"mine")
    assert real.contents() == before
    assert store.get("pins/p/x") == b"mine"
    for uri in ("sales/b", "s3://lake/rows/a", "s3://other/key"):
        with pytest.raises(AssertionError):
            store.put(uri, b"")
    assert real.contents() == before


def test_objects_are_listed_by_prefix_and_in_order(store):
    """A prefix may end within a name, and what is listed can be read."""
    for key in ("a/b", "a/c/d", "a/bb", "ab"):
        store.put(key, key.encode())
    assert [store.get(o.uri).decode() for o in store.list("a/")] == ["a/b", "a/bb", "a/c/d"]
    assert [store.get(o.uri).decode() for o in store.list("a/b")] == ["a/b", "a/bb"]


def test_of_two_creators_one_wins(store):
    """The second is refused, unless it writes the same bytes."""
    store.create("ledger/p/1", b"one")
    store.create("ledger/p/1", b"one")
    with pytest.raises(AlreadyExists):
        store.create("ledger/p/1", b"two")
    assert store.get("ledger/p/1") == b"one"


def test_validations_are_shared_by_all_sandboxes(store, real, tmp_path):
    """What is known by its content is found by a sandbox with another folder."""
    store.put("validations/p/s/c.json", b"valid")
    store.put("nights/p/n.json", b"night")
    other = FolderStore(tmp_path / "other", tmp_path / "shared", real, ["sales/"])
    assert other.get("validations/p/s/c.json") == b"valid"
    assert list(other.list("nights/p/")) == []


def test_versions_are_numbered_and_known_by_their_run_key(store):
    """A run key has one version, the newest comes first, and the number of a deleted one is not given again."""
    registry = FolderRegistry(store)
    first = registry.register("p", facts("one"), "run-1")
    assert registry.register("p", facts("one"), "run-2") == first
    assert (first.version, first.cutoff) == (1, date(2024, 1, 10))
    registry.delete_version("p", registry.register("p", facts("two"), "run-3").version)
    assert [v.version for v in registry.versions("p")] == [1]
    assert registry.register("p", facts("three"), "run-4").version == 3
    assert [v.version for v in registry.versions("p")] == [3, 1]


def test_a_model_that_changed_is_not_loaded(store):
    """What is downloaded has the recorded digest, or is refused."""
    registry = FolderRegistry(store)
    run = registry.start_run("p", "key", "name", {})
    registry.log_model(run, FILES)
    folder, files = registry.download(run, FILES.digest)
    assert files == FILES
    (folder / "booster.ubj").write_bytes(b"other")
    with pytest.raises(ArtifactTampered):
        registry.download(run, FILES.digest)


def test_a_run_keeps_the_fit_that_was_judged_beside_the_one_that_serves(store):
    """Under names of their own."""
    registry = FolderRegistry(store)
    run, judged = registry.start_run("p", "key", "name", {}), FILES.model_copy(update={"features": "SELECT 2"})
    registry.log_model(run, FILES)
    registry.log_model(run, judged, "evaluated")
    assert registry.download(run, judged.digest, name="evaluated")[1] == judged
    folder, files = registry.download(run, FILES.digest)
    assert files == FILES
    assert {path.name for path in folder.iterdir()} == set(FILES.files)  # whoever reads the folder meets nothing else
    registry.discard(run)
    assert not list(store.list("registry/runs/"))
    assert not list(store.list("registry/evaluated/"))


def test_aliases_and_anchors_are_its_own(store):
    """Both are kept, and empty at first."""
    registry = FolderRegistry(store)
    assert (registry.alias("p", "champion"), registry.anchors("p")) == (None, {})
    registry.set_alias("p", "champion", 3)
    registry.anchor("p", 1, "hash")
    assert (registry.alias("p", "champion"), registry.anchors("p")) == (3, {1: "hash"})
