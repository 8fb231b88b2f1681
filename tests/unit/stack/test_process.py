"""Processes: told apart although pids are reused, and stopped with what they started."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from ratchet.stack import process
from ratchet.stack.process import ProcessRef, spawn, terminate

_FAMILY = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('up', flush=True); time.sleep(60)"
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)


def until(condition):
    """Wait for something that will be so."""
    while not condition():
        time.sleep(0.01)


def gone(child):
    """Tell whether a process runs no more; a zombie, whose parent has not asked for its status yet, does not."""
    return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def start(tmp_path):
    """Start processes; kill what is left of them."""
    started = []

    def begin(code: str) -> ProcessRef:
        log = tmp_path / f"{len(started)}.log"
        popen = spawn([sys.executable, "-c", code], os.environ, tmp_path, log)
        started.append(popen)
        while "up" not in log.read_text():
            assert popen.poll() is None, log.read_text()
            time.sleep(0.02)
        return ProcessRef.of(popen.pid)

    yield begin
    for popen in started:
        popen.kill()
        popen.wait()


def test_a_running_process_is_alive_and_a_killed_one_is_not(start):
    """A zombie, whose parent has not asked for its status yet, counts as dead."""
    ref = start("import time; print('up', flush=True); time.sleep(60)")
    assert ref.alive()
    psutil.Process(ref.pid).kill()
    until(lambda: not ref.alive())


def test_a_reused_pid_is_not_our_process():
    """The same pid with another start time belongs to somebody else, and is left alone."""
    ours = ProcessRef.of(os.getpid())
    stranger = ours.model_copy(update={"started": ours.started - 3600})
    assert ours.alive()
    assert not stranger.alive()
    assert terminate([stranger], 0.1) == 0  # else this test would not return


def test_stopping_a_process_stops_its_children(start):
    """The whole session goes."""
    ref = start(_FAMILY)
    (child,) = psutil.Process(ref.pid).children()
    terminate([ref], 60.0)
    until(lambda: not ref.alive() and gone(child))


def test_children_of_a_process_that_was_killed_are_found(start):
    """An orphan is still in the session of its dead parent."""
    ref = start(_FAMILY)
    (child,) = psutil.Process(ref.pid).children()
    psutil.Process(ref.pid).kill()
    until(lambda: not ref.alive())
    assert not gone(child)
    terminate([ref], 1.0)
    until(lambda: gone(child))


def test_a_process_that_ignores_the_polite_signal_is_killed(start):
    """Patience ends."""
    ref = start(_STUBBORN)
    assert terminate([ref], 0.5) == 1
    until(lambda: not ref.alive())


def test_a_process_outside_the_session_is_left_alone(start):
    """Only what was started is stopped."""
    ref = start(_FAMILY)
    with subprocess.Popen(["sleep", "60"]) as bystander:
        terminate([ref], 1.0)
        assert bystander.poll() is None
        bystander.kill()


def test_nothing_to_stop_takes_no_time():
    """An empty list is fine, however patient one is: else this test would not return."""
    assert process.terminate([], 1e6) == 0
