"""The local cache: what is given up, what is not, and what is believed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet import local_cache
from ratchet.domain.records import sha256
from ratchet.errors import DataRejected
from ratchet.local_cache import LocalCache, full_disk_rejects, intact, remember, use

LONG_AGO = 3 * 24 * 3600.0

USER = """
import sys
from pathlib import Path
from ratchet.local_cache import LocalCache, use
root, *names = sys.argv[1:]
cache = LocalCache(Path(root))
cache.prepare()
print(sorted(cache.claim([n for n in names if "/" not in n])), [use(Path(root), Path(root) / n) for n in names if "/" in n], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path):
    """The folder of a cache that no process has used yet."""
    return tmp_path / "cache"


def aged(path, seconds):
    """Let a file or folder have been used some time ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def holding(root, ages, size=1000):
    """Make a cache that holds one object for each age; return it and the objects' sha256."""
    cache = LocalCache(root)
    cache.prepare()
    shas = []
    for n, age in enumerate(ages):
        data = bytes([n]) * size
        shas.append(sha256(data))
        cache.write(data, shas[-1], f"version-{n}")
        aged(root / "objects" / shas[-1], age)
        aged(root / "verified" / shas[-1], age)
    return cache, shas


def names(root, folder):
    """Return what lies in a folder of a cache."""
    return {path.name for path in (root / folder).iterdir()}


def using(root, *what):
    """Start a process that uses something in the cache, and lives until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(root), *what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline()


@given(
    ages=st.lists(st.integers(10, 10_000), max_size=8, unique=True),
    cap=st.integers(0, 9000),
    need=st.integers(0, 5000),
)
def test_what_was_used_longest_ago_is_given_up_and_no_more(tmp_path_factory, ages, cap, need):
    """After room was made, what is kept was used later than all that was not, and one more would not have fitted."""
    root = tmp_path_factory.mktemp("cache")
    _, shas = holding(root, ages)
    LocalCache(root, cap).make_room(need)
    kept = names(root, "objects")
    by_age = [sha for _, sha in sorted(zip(ages, shas, strict=True))]
    assert kept == set(by_age[: len(kept)])
    assert len(kept) * 1000 + need <= cap or not kept
    assert len(kept) == len(ages) or (len(kept) + 1) * 1000 + need > cap
    assert names(root, "verified") == kept


def test_all_folders_count_together_and_the_oldest_of_all_goes_first(root):
    """Tables go with their object; frames and models are given up by when they were used, a model with its whole folder."""
    _, (old, new) = holding(root, [500, 50])
    made = {
        f"tables/{old}-abc.parquet": 400,
        f"tables/{old}-abc.json": 400,
        "frames/f.arrow": 300,
        "frames/f.json": 300,
    }
    made |= {"models/m/booster.ubj": 200, "models/m/schema.json": 200, f"tables/{new}-abc.json": 40}
    for name, age in made.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(500))
        aged(root / name, age)
    aged(root / "models/m", 200)
    left = []
    for cap in (5500, 5499, 3499, 2499):
        LocalCache(root, cap).make_room(0)
        left.append([len(names(root, name)) for name in ("objects", "tables", "frames", "models")])
    assert left == [[2, 3, 2, 1], [1, 1, 2, 1], [1, 1, 0, 1], [1, 1, 0, 0]]
    assert names(root, "objects") == {new}
    assert names(root, "tables") == {f"{new}-abc.json"}


def test_what_this_process_uses_stays_although_the_cap_is_passed(root, caplog):
    """A night that needs more than the cap has it, and a warning says so; a path that was handed out stays good."""
    cache, shas = holding(root, [300, 200, 100])
    (root / "models" / "m").mkdir(parents=True)
    (root / "models" / "m" / "booster.ubj").write_bytes(bytes(1000))
    aged(root / "models" / "m", 400)
    assert cache.claim([shas[0], "0" * 64]) == {shas[0]}
    assert use(root, root / "models" / "m")
    assert not use(root, root / "models" / "other")
    LocalCache(root, 500).make_room(700)
    assert names(root, "objects") == {shas[0]}
    assert names(root, "models") == {"m"}
    assert "more than RATCHET_CACHE_GIB allows" in caplog.text


def test_what_another_living_process_uses_stays_and_a_dead_one_holds_nothing(root):
    """The kernel takes a process's claims with it, however it ends."""
    _, shas = holding(root, [300, 200, 100])
    (root / "frames").mkdir()
    (root / "frames" / "f.arrow").write_bytes(bytes(1000))
    aged(root / "frames" / "f.arrow", 400)
    other, said = using(root, shas[0], "frames/f.arrow")
    assert said == f"{[shas[0]]} [True]\n"
    time.sleep(0.05)  # file systems tell times by the kernel's tick: this process is to begin after the other's use
    LocalCache(root, 0).make_room(0)
    assert names(root, "objects") == {shas[0]}
    assert names(root, "frames") == {"f.arrow"}
    other.kill()
    other.communicate()
    subprocess.run(
        [sys.executable, "-c", f"from pathlib import Path; from ratchet.local_cache import LocalCache; LocalCache(Path({str(root)!r}), 0).make_room(0)"],
        check=True,
    )  # fmt: skip
    assert names(root, "objects") == names(root, "frames") == set()
    assert len(names(root, "users")) == 2  # this process, and the one that has just ended


def test_a_fork_claims_for_itself(root):
    """What a forked worker uses is held by the worker, not by what its parent once noted."""
    cache, shas = holding(root, [100])
    cache.claim(shas)
    before = names(root, "users")
    child = os.fork()
    if child == 0:
        cache.claim(shas)
        os._exit(0 if len(names(root, "users") - before) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_process_that_stopped_with_the_lock_stops_no_other(root, monkeypatch):
    """Use goes on without the lock after a while, and nothing is given up without it."""
    cache, shas = holding(root, [100])
    monkeypatch.setattr(local_cache, "_PATIENCE", 0.05)
    with (root / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cache.claim(shas) == set(shas)
        LocalCache(root, 0).make_room(0)
    assert names(root, "objects") == set(shas)


def test_what_killed_processes_have_left_goes_and_what_is_under_way_stays(root):
    """Half files are removed once they are old, parts only where no process holds them; notes that nobody needs go at last."""
    cache, shas = holding(root, [100])
    for name in ("objects/.new-a", "tables/.x", "frames/.y", "models/.pull-z", "parts/a", "parts/b", "parts/b.notes"):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if "pull" in name else path.write_bytes(b"half")
        aged(path, LONG_AGO)
    for name in ("objects/.new-b", "parts/c", "seen/version-1"):
        (root / name).write_bytes(b"half")
    aged(root / "seen" / "version-0", 200 * 24 * 3600.0)
    (root / "verified" / "gone").write_text("x")
    aged(root / "verified" / "gone", 200 * 24 * 3600.0)
    with (root / "parts" / "a").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        cache.make_room(0)
    assert names(root, "objects") == {shas[0], ".new-b"}
    assert names(root, "parts") == {"a", "c"}
    assert names(root, "tables") == names(root, "frames") == names(root, "models") == set()
    assert names(root, "seen") == {"version-1"}
    assert names(root, "verified") == {shas[0]}


@pytest.mark.parametrize("damage", ["flipped", "replaced", "shorter", "gone", "note", "unreadable"])
def test_a_file_is_believed_as_long_as_nobody_has_touched_it(root, damage, caplog):
    """Whatever was done to a file, it is whole or it is dropped; a file that is only hashed again stays."""
    (root / "tables").mkdir(parents=True)
    path = root / "tables" / "t.parquet"
    path.write_bytes(b"a table")
    assert not intact(root, path)  # nobody has said what it held
    remember(root, path)
    assert intact(root, path)
    about = path.stat()
    if damage in {"flipped", "shorter"}:
        path.write_bytes(b"A table" if damage == "flipped" else b"a")
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    elif damage == "replaced":
        (root / "other").write_bytes(b"a table")
        (root / "other").replace(path)
    elif damage == "unreadable":
        path.unlink()
        path.mkdir()
    else:
        (path if damage == "gone" else root / "verified" / "t.parquet").unlink()
    assert intact(root, path) is (damage == "replaced")
    assert ("has rotted" in caplog.text) is (damage in {"flipped", "shorter"})
    if damage in {"flipped", "shorter"}:
        assert not path.exists()


def test_a_note_that_is_no_digest_is_not_believed(root):
    """What a torn write has left among the notes on object versions is as if it were not there."""
    cache, shas = holding(root, [100])
    assert cache.seen("version-0") == shas[0]
    (root / "seen" / "version-0").write_bytes(b"\x00" * 64)
    assert cache.seen("version-0") is None
    assert cache.seen("version-9") is None


def test_a_disk_without_room_rejects_before_anything_is_pulled(root):
    """The message says how much is to be pulled, how much is free where, and what to change."""
    cache = LocalCache(root)
    cache.prepare()
    with pytest.raises(
        DataRejected,
        match=r"^resource: .* bytes are to be pulled, and 64 MiB to be left free; the disk of the cache .* bytes free",
    ) as said:
        cache.make_room(1 << 60)
    assert "RATCHET_CACHE" in str(said.value)
    with pytest.raises(OSError, match="other"), full_disk_rejects(root, "x"):
        raise OSError("other")


def test_a_note_that_is_half_written_drops_nothing(root):
    """What cannot be told to be whole is not used, and is not taken for rotted either: another process may be at its note."""
    made = root / "frames" / "a.arrow"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"frame")
    remember(root, made)
    note = root / "verified" / made.name
    for half in ("", note.read_text()[:-20]):
        note.write_text(half)
        assert not intact(root, made)
        assert made.read_bytes() == b"frame"
    remember(root, made)
    assert intact(root, made)
    assert names(root, "verified") == {made.name}
