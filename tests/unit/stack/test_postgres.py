"""PostgreSQL's launcher: what a dead server left, and who may reach the programs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ratchet.stack import postgres


def test_the_lock_of_a_dead_server_is_removed(tmp_path):
    """PostgreSQL would take a stranger that got the pid for the server, and refuse to start."""
    lock = tmp_path / "postmaster.pid"
    for pid in (os.getpid(), 2**22 + 1):  # a process that is no server, and none at all
        lock.write_text(f"{pid}\n/data\n")
        postgres._forget_dead_server(lock)
        assert not lock.exists()


def test_a_lock_that_cannot_be_read_is_left_to_postgresql(tmp_path):
    """It knows best what to say about it."""
    lock = tmp_path / "postmaster.pid"
    lock.write_text("not a pid\n")
    postgres._forget_dead_server(lock)
    assert lock.exists()
    postgres._forget_dead_server(tmp_path / "none")


def test_a_folder_below_a_closed_one_is_out_of_reach(tmp_path):
    """Root's home is closed on most machines, and a checkout may lie there."""
    inner = tmp_path / "closed" / "open"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    inner.chmod(0o755)
    assert not postgres._reachable(inner)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_becomes_nobody_and_still_owns_its_files(tmp_path):
    """In the namespace the files are the new user's; the modes of no folder were changed. Or the kernel refused, and it is said."""
    code = (
        "import os, pwd; from ratchet.stack import postgres as p; n = pwd.getpwnam('nobody');"
        f"print(p._enter_namespace(n) and os.geteuid() == n.pw_uid == os.stat({str(tmp_path)!r}).st_uid)"
    )
    before = tmp_path.stat().st_mode
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if found.stdout.strip() == "False":
        pytest.skip("the kernel allows no user namespace here: the launcher steps down for real instead")
    assert tmp_path.stat().st_mode == before
