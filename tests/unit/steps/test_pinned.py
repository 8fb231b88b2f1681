"""Snapshots after their nights: found again, fetched byte for byte, and verified past every cache."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import FIRST, NIGHT, World

from fakes import MemoryStore
from ratchet.domain.snapshots import Pin, Snapshot
from ratchet.domain.windows import Span
from ratchet.errors import ArtifactTampered, DataRejected, UsageError
from ratchet.steps import pinned
from ratchet.steps.context import Context, silent
from ratchet.steps.snapshot import accept

DAY = timedelta(days=1)


def pin(world: World, cutoff: date = NIGHT) -> Snapshot:
    """Run a night's snapshot and keep it, as a night does that trains on it."""
    night = world.until("validate", cutoff)
    accept(Context(world.pipeline(), night, world.services))
    return pinned.load(world.services, "small", night.snapshot.digest)


@pytest.fixture
def two(world):
    """Two nights, the second with one day more and one corrected."""
    first = pin(world)
    world.land(NIGHT + DAY)
    world.land(FIRST + DAY, z=range(40))
    return world, first, pin(world, NIGHT + DAY)


def test_a_snapshot_is_found_by_its_night_or_its_digest(two):
    """By default that of the newest night."""
    world, first, second = two
    pipeline = world.pipeline()
    assert pinned.find(world.services, pipeline, None) == second
    assert pinned.find(world.services, pipeline, NIGHT) == first
    assert pinned.find(world.services, pipeline, first.digest[:8]) == first
    assert pinned.before(world.services, pipeline, second) == first
    assert pinned.before(world.services, pipeline, first) is None


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (NIGHT - DAY, f"no night of small with cutoff {NIGHT - DAY} has a snapshot"),
        ("abcdef", "no snapshot of small begins so"),
        ("abc", "expected the first characters"),
        ("../../etc", "expected the first characters"),
    ],
)
def test_what_there_is_no_snapshot_of(two, wanted, words):
    """Told in words, with what would find one."""
    world, _, _ = two
    with pytest.raises(UsageError, match=words):
        pinned.find(world.services, world.pipeline(), wanted)


def test_a_rejected_nights_snapshot_is_found_by_its_record(world):
    """A night that kept no pin is told by its record."""
    night = world.night(pipeline=world.pipeline(window__min_rows=10_000))
    assert night.outcome == "skipped"
    assert pinned.find(world.services, world.pipeline(window__min_rows=10_000), NIGHT).digest == night.snapshot.digest


def test_changes_are_told_between_any_two(two):
    """What came, what was corrected, and by how many days it was late."""
    world, first, second = two
    changed = pinned.changes(world.services, first, second)
    assert changed.added == (f"rows/dt={NIGHT + DAY}/part.parquet",)
    assert changed.corrected == (f"rows/dt={FIRST + DAY}/part.parquet",)
    assert changed.late == {f"rows/dt={FIRST + DAY}/part.parquet": 7}


def test_a_manifest_that_was_edited_is_not_believed(two):
    """Its digest is its name."""
    world, first, _ = two
    key = f"snapshots/small/{first.digest}.json"
    world.store.put(key, world.store.get(key).replace(b'"size": ', b'"size": 1'))
    with pytest.raises(ArtifactTampered):
        pinned.find(world.services, world.pipeline(), NIGHT)


def test_a_night_whose_manifest_is_gone_is_not_guessed_at(two):
    """What it read cannot be known any more: it is rejected, unless it is asked to pin anew."""
    world, first, _ = two
    world.store.lose(f"s3://ratchet/snapshots/small/{first.digest}.json")
    night = world.until("validate", NIGHT)
    assert (night.outcome, night.ended.reason) == ("rejected", "snapshot_gone")
    assert "run with --repin" in night.ended.detail


def test_a_lost_manifest_of_an_earlier_night_stops_nobody(two):
    """The next night compares itself with the newest that is still there, or with none."""
    world, first, second = two
    world.store.lose(f"s3://ratchet/snapshots/small/{second.digest}.json")
    world.land(NIGHT + 2 * DAY)
    assert world.until("validate", NIGHT + 2 * DAY).snapshot.difference.previous == first.digest
    world.store.lose(f"s3://ratchet/snapshots/small/{first.digest}.json")
    night = world.until("validate", NIGHT + 2 * DAY)
    assert (night.snapshot.difference.previous, night.snapshot.objects) == (None, 8)


def test_a_night_that_is_run_again_still_says_what_had_changed(two):
    """Reading what it read before, it compares it with the night before, as it did then."""
    world, first, second = two
    again = world.until("validate", NIGHT + DAY).snapshot
    assert (again.reused, again.digest) == (True, second.digest)
    assert again.difference.previous == first.digest
    assert again.difference.corrected == (f"rows/dt={FIRST + DAY}/part.parquet",)


def test_every_byte_is_fetched(two, tmp_path):
    """An overwritten object comes as it was pinned; the list in the folder says which file was which object."""
    world, first, _ = two
    folder = tmp_path / "out"
    made = pinned.fetch(world.services, first, folder, silent)
    assert len(made.files) == len({file.path for file in made.files}) == 8
    for file, pinned_object in zip(made.files, first.tables["rows"], strict=True):
        data = (folder / file.path).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), file.uri) == (pinned_object.sha256, pinned_object.uri)
    assert pinned.Fetched.model_validate_json((folder / pinned.MANIFEST).read_bytes()) == made
    assert not list(folder.rglob("*.part"))


def test_a_fetch_goes_on_where_it_was(two, tmp_path):
    """Files that are there and whole are left alone; one that is not is written anew."""
    world, first, _ = two
    made = pinned.fetch(world.services, first, tmp_path / "out", silent)
    whole, broken = (tmp_path / "out" / file.path for file in made.files[:2])
    before = whole.stat().st_mtime_ns
    broken.write_bytes(b"half")
    pinned.fetch(world.services, first, tmp_path / "out", silent)
    assert whole.stat().st_mtime_ns == before
    assert hashlib.sha256(broken.read_bytes()).hexdigest() == made.files[1].sha256


def test_what_is_gone_cannot_be_fetched(two, tmp_path):
    """The command ends with the night's own word for it, and leaves no half file."""
    world, first, _ = two
    world.store.lose(first.tables["rows"][3].uri)
    services = world.machine("another")
    services.store.folder = tmp_path / "elsewhere"
    with pytest.raises(DataRejected, match="snapshot_gone"):
        pinned.fetch(services, first, tmp_path / "out", silent)


def test_bytes_that_are_others_are_not_fetched(two, tmp_path):
    """They are told as damaged, and nothing of them is left in the folder."""
    world, first, _ = two
    spoilt = first.tables["rows"][3]
    world.store.rot(spoilt.uri, b"x" * spoilt.size)
    services = world.machine("another")
    services.store.folder = tmp_path / "elsewhere"
    with pytest.raises(DataRejected, match=f"corrupt: {spoilt.uri} is damaged"):
        pinned.fetch(services, first, tmp_path / "out", silent)
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


def name(key: str, sha256: str = "a" * 64) -> str:
    """Return the path under which an object of this key is fetched."""
    made = Pin(uri=f"s3://lake/{key}", size=1, etag="e", version=None, sha256=sha256, day=NIGHT, rows=1)
    return pinned._file("rows", made).path


@given(st.text(max_size=300))
def test_no_key_leads_out_of_the_folder(key):
    """Whatever an object is called, its file lies in the folder of its table and day, under a name of plain characters."""
    path = name(key)
    folder, _, file = path.rpartition("/")
    assert folder == f"rows/{NIGHT}"
    assert file.isascii()
    assert file[0] not in ".-"
    assert "/" not in file
    assert len(file) < 120


def test_two_contents_never_share_a_file():
    """Objects of one name in one day are told apart by what they hold."""
    assert name("x/part.csv.gz") == f"rows/{NIGHT}/part-{'a' * 16}.csv.gz"
    assert name("x/part.csv") != name("y/part.csv", "b" * 64)


def verified(world: World, snapshot: Snapshot, tmp_path):
    """Verify a snapshot over stores whose caches are empty."""

    def empty(folder):
        made = MemoryStore(folder)
        made.take(world.store)
        return made

    return pinned.verify(snapshot, empty, tmp_path, silent)


def test_a_snapshot_that_is_whole_verifies(two, tmp_path):
    """Also where its objects were overwritten since, and nothing is left behind on the disk."""
    world, first, second = two
    before = set(tmp_path.iterdir())
    assert verified(world, first, tmp_path) == verified(world, second, tmp_path) == ()
    assert set(tmp_path.iterdir()) == before


def test_each_object_that_is_not_as_it_was_is_named(two, tmp_path):
    """A version that is gone, and bytes that have rotted under the same ETag, although the night's own cache still has them."""
    world, first, _ = two
    rows = first.tables["rows"]
    world.store.lose(rows[2].uri)
    world.store.rot(rows[5].uri, b"x" * rows[5].size)
    broken = verified(world, first, tmp_path)
    assert [(b.uri, b.version) for b in broken] == [(p.uri, p.version) for p in (rows[2], rows[5])]
    assert broken[0].problem == "this version is gone"
    assert broken[1].problem == f"its bytes are others: expected sha256 {rows[5].sha256}"


def test_without_versions_an_overwritten_object_cannot_be_had(tmp_path):
    """The bucket keeps the newest alone; which the snapshot did not pin."""
    world = World(tmp_path, versioned=False).land_all()
    first = pin(world)
    world.land(FIRST, z=range(40))
    [broken] = verified(world, first, tmp_path)
    assert broken.problem == "it was overwritten, and the bucket keeps no versions"


def test_a_large_snapshot_is_looked_at_in_pieces(world, tmp_path, monkeypatch):
    """So that no disk needs to hold it all."""
    one = pin(world).tables["rows"][0]
    window = Span(first=FIRST, last=NIGHT)
    many = Snapshot(pipeline="small", cutoff=NIGHT, window=window, tables={"rows": (one,) * 200, "side": (one,) * 3})
    assert [len(batch) for batch in pinned._batches(many)] == [64, 64, 64, 11]
    big = one.model_copy(update={"size": 300 << 20})
    assert [len(b) for b in pinned._batches(many.model_copy(update={"tables": {"rows": (big,) * 3}}))] == [1, 1, 1]
