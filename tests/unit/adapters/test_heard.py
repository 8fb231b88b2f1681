"""Warnings are told apart by thread."""

from __future__ import annotations

import threading
import warnings

from ratchet.adapters.heard import heard


def test_each_thread_hears_its_own():
    """Of two that listen at once each hears what it caused, and nothing of the other."""
    both, found = threading.Barrier(2), {}

    def listen(name):
        with heard() as said:
            both.wait()
            warnings.warn(name, UserWarning, stacklevel=1)
            both.wait()
        found[name] = [str(warning.message) for warning in said]

    threads = [threading.Thread(target=listen, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"a": ["a"], "b": ["b"]}


def test_others_hear_theirs_as_ever():
    """A thread that does not listen is heard by whoever did before; afterwards all is as it was."""
    before = (warnings.showwarning, list(warnings.filters))
    with warnings.catch_warnings(record=True) as outside:
        warnings.simplefilter("always")
        with heard() as said:
            thread = threading.Thread(target=warnings.warn, args=("elsewhere", UserWarning))
            thread.start()
            thread.join()
    assert (said, [str(warning.message) for warning in outside]) == ([], ["elsewhere"])
    assert (warnings.showwarning, list(warnings.filters)) == before
