"""A fleet's members leave their evidence, and each reads that of the others."""

from __future__ import annotations

from dataclasses import replace

from small_world import NIGHT, World

from ratchet.domain import layout
from ratchet.domain.night import NightRequest
from ratchet.steps import fleets
from ratchet.steps.context import Context
from ratchet.steps.night import begin


class Counted:
    """A store that counts what is read of it."""

    def __init__(self, store):
        self._store, self.read = store, []

    def __getattr__(self, name):
        """Leave all else to the store."""
        return getattr(self._store, name)

    def get(self, uri):
        """See ``ports.ObjectStore.get``."""
        self.read.append(uri)
        return self._store.get(uri)


def test_a_member_is_read_once_however_many_ask(tmp_path):
    """Segments of one process read each other's evidence again only where it has changed; what cannot be read proves nothing."""
    world = World(tmp_path)
    store, whole = Counted(world.store), world.pipeline()
    night = begin(NightRequest(pipeline="small", cutoff=NIGHT), whole)
    services = replace(world.services, store=store)

    def of(slug):
        return Context(whole.of_segment(slug), night, services)

    for i in range(20):
        fleets.leave(of(f"s{i}"), {"shops": 0.5})
    world.store.put(layout.fleet_member("shops", "odd"), b"{")
    store.read.clear()
    first = fleets.members(of("s0"), "shops")
    assert (len(first), len(store.read)) == (20, 21)
    assert [member.evidence for member in first if member.pipeline == "odd"] == [0.0]
    fleets.leave(of("s3"), {"shops": 12.0})
    store.read.clear()
    again = {member.pipeline: member.evidence for member in fleets.members(of("s7"), "shops")}
    assert [uri.rpartition("/")[2] for uri in store.read] == ["small--s3.json"]
    assert (again["small--s3"], "small--s7" in again) == (12.0, False)
