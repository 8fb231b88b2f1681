"""Prune deletes what nothing needs, keeps what something does, and goes on where it was killed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from small_world import NIGHT

from fakes import Killed, Tripwire
from ratchet.domain import layout
from ratchet.domain.ledger import Champion
from ratchet.errors import LedgerBroken
from ratchet.steps import turns
from ratchet.steps.prune import prunable, prune
from ratchet.steps.rollback import roll_back

DAY = timedelta(days=1)
NIGHTS = 14
REFUSES = [{"kind": "bound", "metric": "auc", "at_least": 0.999, "min_rows": 10}]
KEEP = {"retention__versions": 0, "retention__days": 2, "league__size": 2}


@pytest.fixture(scope="session")
def _old(tmp_path_factory, _reigning):
    """A world with many nights that promoted nobody, one champion at the beginning, and one in the middle."""
    made = _reigning.copy(tmp_path_factory.mktemp("old"))
    for i in range(1, NIGHTS + 1):
        made.land(NIGHT + i * DAY)
        gates = {} if i == 3 else {"gates": REFUSES}
        made.night(NIGHT + i * DAY, pipeline=made.pipeline(**KEEP, **gates), dry_run=i == 5)
    assert [e.champion.version for e in made.entries] == [1, 4]
    return made


@pytest.fixture
def old(_old, tmp_path):
    """As ``_old``."""
    return _old.copy(tmp_path)


def rule(world):
    """Return the pipeline with little retention."""
    return world.pipeline(**KEEP)


def test_what_nothing_needs_is_deleted_and_the_rest_works(old):
    """Champions past and present stay whole: a rollback to the first still works, and so does the next night."""
    gone = prune(old.services, rule(old))
    assert set(gone.versions) == {2, 3, 5, 6}
    left = {v.version for v in old.registry.versions("small")}
    assert {1, 4} <= left
    assert not {2, 3, 5, 6} & left
    assert len(old.registry.runs) == len(left)
    assert not any("-dry" in key for key in old.store.keys("nights/"))
    nights = old.store.keys("nights/small/")
    assert any(f"/{NIGHT}/" in key for key in nights)
    assert not any(f"/{NIGHT + DAY}/" in key for key in nights)
    for entry in old.entries:
        assert old.store.keys(f"runs/small/{entry.night}/gate.json")
    assert prunable(old.services, rule(old)).objects == ()
    after = NIGHT + (NIGHTS + 1) * DAY
    old.land(after)
    assert old.night(after, pipeline=rule(old)).outcome in {"promoted", "undecided", "refused"}
    assert roll_back(old.services, rule(old), to=1, actor="ada", reason="x").champion.version == 1


def test_a_dry_run_says_what_would_go(old):
    """It lists the same, with its bytes, and deletes nothing."""
    before = old.store.contents(), dict(old.registry.runs), old.registry.anchors("small")
    would = prunable(old.services, rule(old))
    assert before == (old.store.contents(), dict(old.registry.runs), old.registry.anchors("small"))
    assert would.bytes > 0
    assert prune(old.services, rule(old)) == would


def test_the_default_rule_keeps_a_young_pipeline_whole(old):
    """Thirty versions and ninety days are more than there is."""
    would = prunable(old.services, old.pipeline())
    assert (would.versions, would.runs, would.objects) == ((), (), ())


def test_killed_at_any_moment_it_goes_on(old):
    """The champions' records are whole after each kill, and in the end the same is gone."""
    rehearsal = old.copy(old.folder / "rehearsal")
    rehearsal.arm(Tripwire())
    prune(rehearsal.services, rule(rehearsal))
    writes, want = rehearsal.store.tripwire.seen, rehearsal.store.contents()
    assert {what.split()[0] for what in writes} == {"delete", "delete_version", "erase"}
    for at in [*range(1, 10), *range(10, len(writes), 9), len(writes)]:
        world = old.copy(old.folder / f"killed-{at}")
        world.arm(Tripwire(at))
        with pytest.raises(Killed):
            prune(world.services, rule(world))
        world.arm(Tripwire())
        prune(world.services, rule(world))
        assert world.store.contents() == want
        assert {v.version for v in world.registry.versions("small")} == {
            v.version for v in rehearsal.registry.versions("small")
        }


def test_a_champion_that_comes_at_the_last_moment_is_kept(old):
    """The plan is made again when the ledger has changed."""
    services, looked = old.services, []
    entries = type(services.ledger).entries

    class Slow(type(services.ledger)):
        def entries(self, pipeline):
            looked.append(pipeline)
            if len(looked) == 2:
                roll_back(services, rule(old), to=1, actor="ada", reason="x")
            return entries(self, pipeline)

    prune(replace(services, ledger=Slow(old.store)), rule(old))
    assert len(looked) > 2
    assert {1, 4} <= {v.version for v in old.registry.versions("small")}


def test_a_champion_that_comes_while_versions_go_is_kept(old):
    """The ledger is read before each deletion: a version that was promoted while another went stays, with all that it needs."""
    told = []

    def say(line):
        told.append(line)
        if line == "version 2":
            entry = old.entries[-1]
            third = next(v for v in old.registry.versions("small") if v.version == 3)
            champion = Champion(**third.model_dump(include=set(Champion.model_fields)))
            turns.append(
                old.services, "small", old.entries, "adopt", champion=champion, actor="ada", reason="it is needed"
            )
            assert old.entries[-1].seq == entry.seq + 1

    gone = prune(old.services, rule(old), say)
    assert gone.versions == (2, 5, 6)
    third = next(v for v in old.registry.versions("small") if v.version == 3)
    assert third.mlflow_run_id in old.registry.runs
    assert old.champion == 3


def test_what_killed_processes_have_left_goes(old):
    """A probe of yesterday's yesterday, and the run of a fit that was lost and made again; what may be under way stays."""
    today = datetime.now(UTC).date()
    for day in (today, today - 3 * DAY):
        old.store.put(f"{layout.probes(day)}abc", b"first")
    made = old.registry.versions("small")[0]
    run = old.registry.runs[made.mlflow_run_id]
    twin = old.registry.start_run("small", made.run_key, "small", run.tags)
    busy = old.registry.start_run("small", made.run_key, "small", run.tags)
    old.registry.finish(twin)
    prune(old.services, rule(old))
    assert old.store.keys("probes/") == [f"{layout.probes(today)}abc"]
    assert twin not in old.registry.runs
    assert {made.mlflow_run_id, busy} <= set(old.registry.runs)


def test_nothing_is_deleted_on_a_ledger_that_does_not_verify(old):
    """What is needed cannot be told then."""
    old.store.put("ledger/small/00000001.json", old.store.get("ledger/small/00000001.json").replace(b"tests", b"other"))
    before = old.store.contents()
    with pytest.raises(LedgerBroken):
        prune(old.services, rule(old))
    assert old.store.contents() == before
