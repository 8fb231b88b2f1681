"""The supervisor, on services that are two lines of Python."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from ratchet.stack import supervisor
from ratchet.stack.folder import Folder, Plan, load, save
from ratchet.stack.record import Run, boot_id, exit_words, tail
from ratchet.stack.service import Service
from ratchet.stack.view import view

PATIENCE = 300  # seconds, of a machine that has much else to do
SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def _well(_: float) -> None:
    return None


@pytest.fixture
def supervise(tmp_path, monkeypatch):
    """Supervise the given services in a thread; return the folder and the supervisor."""
    folder = Folder(tmp_path / "state")
    folder.make()
    save(folder.plan, Plan(services=(), ports={}, project=tmp_path, dags=tmp_path, plugins=tmp_path))
    monkeypatch.setattr(supervisor.signal, "signal", lambda *_: None)  # only the main thread may
    running = []

    def begin(*services: Service):
        monkeypatch.setattr(supervisor, "services", lambda *_: services)
        found = supervisor.Supervisor(folder)
        thread = threading.Thread(target=found.run)
        thread.start()
        running.append((found, thread))
        return folder, found

    yield begin
    for found, thread in running:
        found._stop = True
        thread.join(PATIENCE)


def _until(folder, condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        run = load(folder.run, Run)
        if run is not None and condition(run):
            return run
        time.sleep(0.02)
    raise AssertionError(load(folder.run, Run))


def _service(name, command=SLEEP, **rest):
    return Service(name, command, dict(os.environ), **({"probe": _well} | rest))


def test_services_start_in_order_and_preparations_end(supervise):
    """A service waits until what it needs is well or done."""
    once = (sys.executable, "-c", "print('made')")
    folder, _ = supervise(
        _service("store"),
        _service("make", once, needs=("store",), once=True, probe=None),
        _service("user", needs=("make",)),
    )
    run = _until(folder, lambda r: len(r.services) == 3 and r.named("user").state == "healthy")
    assert [s.state for s in run.services] == ["healthy", "done", "healthy"]
    assert run.named("store").since <= run.named("make").since <= run.named("user").since


def test_a_crash_is_recorded_with_its_status_and_last_words(supervise):
    """Nothing is restarted silently."""
    dies = (sys.executable, "-c", "import sys; print('no disk left'); sys.exit(7)")
    folder, _ = supervise(_service("good"), _service("bad", dies, probe=lambda _: "not yet"))
    run = _until(folder, lambda r: r.services and r.named("bad").state == "crashed")
    assert run.named("bad").exit_code == 7
    assert run.named("bad").tail == ("no disk left",)
    _until(folder, lambda r: r.named("good").state == "healthy")
    seen = view(folder)
    assert seen.running
    assert not seen.healthy
    assert "bad failed" in seen.note


def test_what_needs_a_failed_service_says_so(supervise):
    """It waits, and names what it waits for."""
    dies = (sys.executable, "-c", "raise SystemExit(1)")
    folder, _ = supervise(_service("bad", dies, once=True, probe=None), _service("user", needs=("bad",)))
    run = _until(folder, lambda r: r.services and r.named("user").detail)
    assert run.named("user").detail == "waits for bad, which failed"


def test_asked_again_it_starts_what_has_ended_and_leaves_the_rest(supervise, tmp_path):
    """That is what `ratchet up` does after a crash."""
    flag = tmp_path / "flag"
    code = f"import pathlib, time; f = pathlib.Path({str(flag)!r}); time.sleep(600) if f.exists() else exit(1)"
    folder, found = supervise(_service("good"), _service("flaky", (sys.executable, "-c", code)))
    first = _until(folder, lambda r: r.services and r.named("flaky").state == "crashed").named("good").process
    flag.touch()
    found._on_reload()
    run = _until(folder, lambda r: r.named("flaky").state == "healthy")
    assert run.named("good").process == first


def test_what_was_done_before_is_not_done_again(supervise, tmp_path):
    """A mark of the same text stands for the work."""
    mark, trace = tmp_path / "mark", tmp_path / "trace"
    mark.write_text("3.3")
    once = (sys.executable, "-c", f"open({str(trace)!r}, 'w')")
    folder, _ = supervise(_service("make", once, once=True, probe=None, mark=mark, mark_text="3.3"))
    _until(folder, lambda r: r.services and r.named("make").state == "done")
    assert not trace.exists()


def test_an_unanswered_question_or_two_do_not_make_a_service_unwell(supervise, monkeypatch):
    """A busy machine answers late; three in a row count."""
    monkeypatch.setattr(supervisor, "_PROBE_STEADY", 0.05)
    answers = [None, "late", "late", None]
    folder, _ = supervise(_service("slow", probe=lambda _: answers.pop(0) if answers else "gone"))
    states = []
    run = _until(folder, lambda r: states.append(r.services and r.services[0].state) or "unhealthy" in states)
    assert run.named("slow").detail == "gone"


def test_it_ends_with_its_folder(supervise):
    """Whoever removes the state folder stops the stack."""
    folder, _ = supervise(_service("good"))
    ref = _until(folder, lambda r: r.services and r.named("good").state == "healthy").named("good").process
    folder.plan.unlink()
    while ref.alive():
        time.sleep(0.05)


def test_a_record_of_another_boot_means_nothing(supervise):
    """After a reboot the same pids are other processes."""
    folder, _ = supervise(_service("good"))
    run = _until(folder, lambda r: r.services and r.named("good").state == "healthy")
    save(folder.run, run.model_copy(update={"boot": "another"}))
    assert not view(folder).running
    assert view(folder).services[0].pid is None
    assert run.boot == boot_id()


@pytest.mark.parametrize(("code", "words"), [(0, "ended with status 0"), (-9, "was killed by SIGKILL")])
def test_the_end_of_a_process_is_said_in_words(code, words):
    """A signal has a name."""
    assert exit_words(code) == words


def test_the_tail_of_a_log_is_short(tmp_path):
    """Lines are cut, and only the last are shown."""
    log = tmp_path / "a.log"
    log.write_text("".join(f"{n} {'x' * 1000}\n" for n in range(100)))
    found = tail(log, lines=3, width=50)
    assert [line.split()[0] for line in found] == ["97", "98", "99"]
    assert max(map(len, found)) == 50
    assert tail(tmp_path / "none.log") == ()
