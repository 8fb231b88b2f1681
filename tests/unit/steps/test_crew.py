"""Work in processes of its own: done by all, failing in words, and told when one dies."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys

import pytest

from ratchet.errors import PipelineUnknown, RatchetError, ServiceError
from ratchet.steps.crew import Crew


def world(name):
    """Return what stands for services here."""
    return f"{name} of {os.getpid()}"


def where(worlds, item):
    """Say which world does the work; its services are built once."""
    assert worlds("a") is worlds("a")
    return f"{item} in {worlds('a')}"


def failing(_worlds, item):
    """Fail with an error that cannot be sent to another process as it is."""
    raise PipelineUnknown(item, "home", ())


def dying(_worlds, _item):
    """Die as for want of memory."""
    os._exit(9)


def test_one_job_is_done_here():
    """Without other processes the work is done in this one, in order."""
    with Crew(world, 1) as crew:
        assert list(crew.each(where, ["x", "y"])) == [(i, f"{i} in a of {os.getpid()}") for i in ("x", "y")]


def test_more_jobs_are_done_elsewhere():
    """Every item comes back with its result, made in another process."""
    with Crew(world, 2) as crew:
        found = dict(crew.each(where, ["x", "y", "z"]))
    assert sorted(found) == ["x", "y", "z"]
    assert all(str(os.getpid()) not in told for told in found.values())


def test_an_error_of_another_process_comes_in_its_words():
    """What failed there is told here as it would have been told there."""
    with Crew(world, 2) as crew, pytest.raises(RatchetError, match="no pipeline 'x' in home"):
        list(crew.each(failing, ["x"]))


def test_a_process_that_dies_is_told_of():
    """Nobody waits for it, and the words say what to do."""
    with Crew(world, 2) as crew, pytest.raises(ServiceError, match="fewer --jobs"):
        list(crew.each(dying, ["x"]))


def test_processes_end_with_the_one_that_started_them():
    """Once the first process is killed, its workers do not stay behind."""
    code = (
        "import os, signal, test_crew as t\n"
        "from ratchet.steps.crew import Crew\n"
        "if __name__ == '__main__':\n"
        "    crew = Crew(t.world, 2)\n"
        "    print(*[told.split()[-1] for _, told in crew.each(t.where, [1, 2, 3, 4])], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    workers = {int(pid) for pid in done.stdout.split()}
    assert workers
    for pid in workers:
        _gone(pid)


def _gone(pid: int) -> None:
    """Wait for a process to end."""
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(pid)], [], [])
