"""The process dies at any write, a reply is lost, two machines interleave: run again, and it is as if nothing had been."""

from __future__ import annotations

from datetime import timedelta

import pytest
from small_world import NIGHT, World

from fakes import Killed, MemoryRegistry, Tripwire
from ratchet.errors import ServiceError
from ratchet.steps.history import nights

NEXT = NIGHT + timedelta(days=1)


def moments(world, cutoff):
    """Return the numbers of a night's writes before which the process is to die: of many of a kind in a row the first and last."""
    world.copy(world.folder / "warm").night(cutoff)  # its cache is shared: from now on all worlds make the same writes
    rehearsal = world.copy(world.folder / "rehearsal")
    rehearsal.arm(Tripwire())
    assert rehearsal.night(cutoff).outcome == "promoted"
    kinds = ["", *(what.partition("/")[0] for what in rehearsal.store.tripwire.seen), ""]
    return [
        n for n in range(1, len(kinds) - 1) if not kinds[n - 1] == kinds[n] == kinds[n + 1]
    ], rehearsal.store.tripwire.seen


def survives(world, cutoff, at, entries):
    """Kill the night before its write number ``at``, run it again on another machine, and check that it came out once."""
    world.arm(Tripwire(at))
    with pytest.raises(Killed):
        world.night(cutoff)
    world.arm(Tripwire())
    dead = world.store.contents("ledger/")
    assert len(world.entries) in {entries - 1, entries}
    again = world.night(cutoff, services=world.machine("elsewhere"))
    assert again.outcome == "promoted"
    assert len(world.entries) == entries
    assert dead.items() <= world.store.contents("ledger/").items()
    assert [v.run_key for v in world.registry.versions("small")].count(again.run_key) == 1
    assert world.champion == world.entries[-1].champion.version
    assert world.registry.alias("small", "challenger") == world.champion
    orphans = [run for run in world.registry.runs.values() if run.run_key == again.run_key]
    assert len(orphans) <= 2
    return again


def test_a_first_night_killed_at_any_write_is_finished_by_the_next_run(world):
    """Wherever a first night dies, running it again gives one version, one entry, the alias, and the same bytes."""
    chosen, seen = moments(world, NIGHT)
    assert {"create snapshots", "put pins", "register small", "create ledger", "put nights"} <= {
        seen[at - 1].partition("/")[0] for at in chosen
    }
    made = {
        survives(world.copy(world.folder / f"killed-{at}"), NIGHT, at, entries=1).train.artifact_digest for at in chosen
    }
    assert len(made) == 1


def test_a_later_night_killed_at_any_write_is_finished_by_the_next_run(reigning):
    """Wherever a night under a champion dies, running it again gives one more version and one more entry."""
    reigning.land(NEXT)
    for at in moments(reigning, NEXT)[0]:
        survives(reigning.copy(reigning.folder / f"killed-{at}"), NEXT, at, entries=2)


def test_a_crash_between_ledger_and_alias_is_healed_by_the_next_night(reigning):
    """When the night is never run again, the night after it finds the alias behind the ledger and sets it right."""
    reigning.land(NEXT)
    _, seen = moments(reigning, NEXT)
    at = seen.index("set_alias champion 2") + 1
    assert seen[at] == "anchor small 2"
    assert seen[at - 2].startswith("create ledger/")
    reigning.arm(Tripwire(at))
    with pytest.raises(Killed):
        reigning.night(NEXT)
    assert (len(reigning.entries), reigning.champion) == (2, 1)
    reigning.arm(Tripwire())
    after = NEXT + timedelta(days=1)
    reigning.land(after)
    weak = reigning.pipeline(training__rounds=1, training__params__eta=0.01)
    night = reigning.night(after, pipeline=weak)
    assert night.outcome == "refused"
    assert "pointed at version 1" in night.score.repaired
    assert night.alerts == ()  # nobody has moved anything
    assert reigning.champion == 2


def test_a_run_that_finishes_what_a_crash_left_raises_no_alarm(reigning):
    """A promotion that is run again after it died before the alias could follow is told as what it is."""
    reigning.land(NEXT)
    before = reigning.until("promote", NEXT)
    reigning.arm(Tripwire(2))
    with pytest.raises(Killed):
        reigning.step("promote", before)
    assert (len(reigning.entries), reigning.champion) == (2, 1)
    reigning.arm(Tripwire())
    done = reigning.step("promote", before)
    assert (done.promote.promoted, reigning.champion, done.alerts) == (True, 2, ())


def test_an_alias_moved_back_by_hand_is_told_from_a_crash(reigning):
    """An entry that has its anchor was followed by the alias once: whoever moved it back to the champion before was a person."""
    reigning.land(NEXT)
    assert reigning.night(NEXT).outcome == "promoted"
    reigning.registry.set_alias("small", "champion", 1)
    after = NEXT + timedelta(days=1)
    reigning.land(after)
    night = reigning.night(after, pipeline=reigning.pipeline(training__rounds=1, training__params__eta=0.01))
    assert [alert.kind for alert in night.alerts] == ["alias_moved"]
    assert reigning.champion == 2


def test_a_dry_run_mends_nothing(reigning):
    """Alias and anchor wait for a run that may write."""
    reigning.land(NEXT)
    before = reigning.until("promote", NEXT)
    reigning.arm(Tripwire(2))
    with pytest.raises(Killed):
        reigning.step("promote", before)
    reigning.arm(Tripwire())
    assert reigning.night(NEXT, dry_run=True).alerts == ()
    assert (reigning.champion, set(reigning.registry.anchors("small"))) == (1, {1})


@pytest.mark.parametrize("lost", ["start_run", "register", "set_alias", "log_model"])
def test_a_reply_that_is_lost_makes_nothing_twice(tmp_path, lost):
    """The registry commits and its reply is lost: the night fails, and the run after it finds what is there."""

    class Forgetful(MemoryRegistry):
        armed = True

        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if name != lost or not super().__getattribute__("armed"):
                return found

            def call(*args, **kwargs):
                found(*args, **kwargs)
                self.armed = False
                raise ServiceError("MLflow", name, "the reply was lost")

            return call

    world = World(tmp_path).land_all()
    world.registry = Forgetful(tmp_path / "models")
    with pytest.raises(ServiceError, match="the reply was lost"):
        world.night(services=world.machine("cache"))
    assert nights(world.services, "small")[0].outcome == "failed"
    assert world.night(services=world.machine("cache")).outcome == "promoted"
    assert len(world.registry.versions("small")) == len(world.entries) == 1


class Overtaken:
    """Lets another machine do the same step just before this one records its result.

    Args:
        world: where.
        night: as it stands before the step.
        step: which.
    """

    def __init__(self, world: World, night, step: str) -> None:
        self.world, self.night, self.step = world, night, step
        self.theirs = None

    def __call__(self, operation: str, where: str) -> None:
        """Step in, once."""
        if self.theirs is None and operation == "create" and where.endswith(f"/{self.step}.json"):
            self.theirs = self.night
            self.theirs = self.world.step(self.step, self.night, self.world.machine("faster"))


def test_a_training_that_was_overtaken_is_withdrawn(world):
    """Of two trainings of one night the one that records first counts; the other's run is discarded."""
    night = world.until("train")
    world.store.tripwire = Overtaken(world, night, "train")
    mine = world.step("train", night)
    assert mine.train == world.store.tripwire.theirs.train
    assert list(world.registry.runs) == [mine.train.mlflow_run_id]


def test_a_registration_that_was_overtaken_keeps_the_version_that_both_found(world):
    """When both machines mean the same version, the slower one must not take it back."""
    night = world.until("register")
    world.store.tripwire = Overtaken(world, night, "register")
    mine = world.step("register", night, world.machine("cache"))
    assert mine.register_ == world.store.tripwire.theirs.register_
    assert [v.version for v in world.registry.versions("small")] == [mine.register_.version.version]


def test_of_two_registrations_at_once_one_version_stays(tmp_path):
    """When both machines register before either sees the other, one version is withdrawn and the alias names the one that stays."""

    class Racing(MemoryRegistry):
        overtake = None

        def register(self, pipeline, version, run_id):
            overtake, self.overtake = self.overtake, None
            made = super().register(pipeline, {**version, "run_key": "unseen"} if overtake else version, run_id)
            if overtake:
                overtake()
            return made.model_copy(update={"run_key": version["run_key"]})

    world = World(tmp_path).land_all()
    world.registry = Racing(tmp_path / "models")
    here = world.machine("cache")
    night = world.until("register", services=here)
    world.registry.overtake = lambda: world.step("register", night, world.machine("faster"))
    mine = world.step("register", night, here)
    assert [v.version for v in world.registry.versions("small")] == [mine.register_.version.version] == [2]
    assert world.registry.alias("small", "challenger") == 2


def test_a_promoter_that_was_overtaken_at_the_last_moment_is_superseded(reigning):
    """Another run takes the entry between this one's reading of the ledger and its own append."""
    reigning.land(NEXT)
    other = reigning.pipeline(training__seed=5)
    night, rival = reigning.until("promote", NEXT), reigning.until("promote", NEXT, pipeline=other)

    def overtake(operation, where):
        if operation == "create" and where.startswith("ledger/"):
            reigning.store.tripwire = Tripwire()
            reigning.step("promote", rival, pipeline=other)

    reigning.store.tripwire = overtake
    done = reigning.step("promote", night)
    assert not done.promote.promoted
    assert "another run took entry 2 first" in done.promote.detail
    assert reigning.entries[-1].champion.run_key == rival.run_key
    assert reigning.champion == reigning.entries[-1].champion.version


def test_a_stale_promoter_is_refused(reigning):
    """A run that slept while another was promoted is superseded when it wakes, however good it is."""
    reigning.land(NEXT)
    sleeper = reigning.until("promote", NEXT)
    assert reigning.night(NEXT, pipeline=reigning.pipeline(training__seed=5)).outcome == "promoted"
    woken = reigning.step("promote", sleeper)
    assert not woken.promote.promoted
    assert "superseded" in woken.promote.detail
    assert len(reigning.entries) == 2
