"""A champion goes back to one that served before, a freeze holds, and a kill at any write leaves nothing or one entry."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from small_world import NIGHT

from fakes import Killed, Tripwire
from ratchet.domain.ledger import frozen
from ratchet.errors import ActionRefused
from ratchet.ports import Tried
from ratchet.steps.freeze import freeze, thaw
from ratchet.steps.rollback import newest_day, roll_back

NEXT = NIGHT + timedelta(days=1)


def back(world, services=None, **asked):
    """Ask for a rollback."""
    asked = {"to": None, "actor": "ada", "reason": "it predicts nonsense", **asked}
    return roll_back(services or world.services, world.pipeline(), **asked)


@pytest.fixture(scope="session")
def _two(tmp_path_factory, _reigning):
    made = _reigning.copy(tmp_path_factory.mktemp("two"))
    made.land(NEXT)
    made.night(NEXT)
    assert [e.action for e in made.entries] == ["bootstrap", "promote"]
    return made


@pytest.fixture
def two(_two, tmp_path):
    """A world with two champions, of which the second serves."""
    return _two.copy(tmp_path)


@pytest.fixture
def three(two):
    """A world with three champions."""
    after = NEXT + timedelta(days=1)
    two.land(after)
    two.night(after)
    assert [e.champion.version for e in two.entries] == [1, 2, 3]
    return two


def test_a_rollback_goes_to_the_last_champion_that_served(two):
    """The entry names it, says why and what was tried, and the alias follows."""
    entry = back(two)
    assert (entry.action, entry.champion.version, entry.actor, entry.reason) == (
        "rollback",
        1,
        "ada",
        "it predicts nonsense",
    )
    assert "loaded afresh and scored" in entry.reasons[-1]
    assert two.champion == 1
    assert two.entries[-1] == entry


def test_a_reign_that_a_rollback_begins_uses_no_day_again(two):
    """The newest day that any stored evidence has is where the new reign's evidence begins after."""
    assert newest_day(two.services, "small") == NEXT
    assert back(two).judged_through == NEXT


def test_a_rollback_may_name_the_version(three):
    """Any version that served may be named."""
    assert back(three, to=1).champion.version == 1
    assert three.champion == 1


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"reason": "  "}, "needs a reason"),
        ({"to": 2}, "version 2 serves already"),
        ({"to": 7}, "version 7 never served; there are: 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(two, asked, says):
    """Nothing is written, and the words say what there is."""
    before = two.state()
    with pytest.raises(ActionRefused, match=says):
        back(two, **asked)
    assert two.state() == before


def test_the_first_champion_has_nobody_to_go_back_to(reigning):
    """That is said."""
    with pytest.raises(ActionRefused, match="version 1 is the first champion"):
        back(reigning)


def test_a_target_that_was_tampered_with_is_refused_and_the_next_older_named(three):
    """The digest is checked on fresh bytes, although a good copy lies in the cache."""
    run = three.entries[1].champion.mlflow_run_id
    three.services.registry.download(run, three.entries[1].champion.artifact_digest)
    model = three.registry.runs[run].model
    model["booster.ubj"] = bytes([model["booster.ubj"][0] ^ 1]) + model["booster.ubj"][1:]
    with pytest.raises(ActionRefused, match=r"recorded was .*ratchet rollback small --to 1"):
        back(three)
    assert len(three.entries) == 3
    assert back(three, to=1).champion.version == 1


def test_a_target_that_does_not_score_todays_rows_is_refused(three):
    """The smoke process decides, and its words are handed on."""

    class Blind(type(three.services.trainer)):
        def smoke(self, folder, digest, rows, expected):
            assert expected is None
            return Tried(problem="feature z is missing")

    with pytest.raises(ActionRefused, match=r"does not score today's rows: feature z is missing.*version 1"):
        back(three, services=three.machine("cache", Blind()))
    assert len(three.entries) == 3


def test_a_fresh_process_scores_todays_rows(two):
    """The real trainer tries the target in a process of its own."""
    from ratchet.adapters.xgb import XgbTrainer

    assert back(two, services=two.machine("cache", XgbTrainer())).champion.version == 1


def test_a_fresh_process_refuses_scores_that_are_not_finite(two, tmp_path):
    """A model that gives no number for a row has not scored it."""
    from ratchet.adapters import smoke

    folder, files = two.registry.download(
        two.entries[0].champion.mlflow_run_id, two.entries[0].champion.artifact_digest
    )
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [0.5], "z": [0.1], "place": ["north"]}), tmp_path / "rows.parquet")
    assert smoke.main(str(folder), files.digest, str(tmp_path / "rows.parquet")) == Tried()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smoke, "predict", lambda *_: np.array([np.nan]))
        said = smoke.main(str(folder), files.digest, str(tmp_path / "rows.parquet"))
    assert said.problem == "1 of 1 rows have no finite score"


def test_asking_twice_goes_back_once(three):
    """The same person with the same reason means the same rollback; another reason goes further back."""
    first = back(three)
    assert back(three) == first
    assert len(three.entries) == 4
    assert back(three, reason="still nonsense").champion.version == 1


def test_of_two_at_once_one_goes_back(three):
    """Who saw the champion that another has sent back meanwhile is told, and goes back no further."""

    def overtake(operation, where):
        if operation == "create" and where.startswith("ledger/"):
            three.store.tripwire = Tripwire()
            back(three, services=three.machine("faster"), actor="bob", reason="me too")

    three.store.tripwire = overtake
    with pytest.raises(ActionRefused, match=r"bob was faster with entry 4 \(rollback\); version 2 serves now"):
        back(three)
    assert [e.champion.version for e in three.entries] == [1, 2, 3, 2]
    assert three.champion == 2


def test_who_comes_while_another_is_still_looking_goes_back_no_further(three):
    """What was seen first counts, although the other has finished before this one came to think."""
    anchors = three.registry.anchors

    def slow(pipeline):
        three.registry.anchors = anchors
        back(three, services=three.machine("faster"), actor="bob", reason="me too")
        return anchors(pipeline)

    three.registry.anchors = slow
    with pytest.raises(ActionRefused, match=r"bob was faster with entry 4 \(rollback\)"):
        back(three)
    assert [e.champion.version for e in three.entries] == [1, 2, 3, 2]


def test_a_freeze_in_between_does_not_stop_a_rollback(two):
    """It leaves the champion as it was seen, so the rollback follows it."""

    def overtake(operation, where):
        if operation == "create" and where.startswith("ledger/"):
            two.store.tripwire = Tripwire()
            freeze(two.services, "small", actor="bob", reason="audit", until=None)

    two.store.tripwire = overtake
    assert back(two).seq == 4
    assert [e.action for e in two.entries] == ["bootstrap", "promote", "freeze", "rollback"]
    assert frozen(two.entries, NIGHT)


def test_a_night_that_was_judged_before_a_rollback_is_superseded(two):
    """Its verdict is about a reign that has ended."""
    after = NEXT + timedelta(days=1)
    two.land(after)
    night = two.until("promote", after)
    back(two)
    done = two.step("promote", night)
    assert not done.promote.promoted
    assert "superseded" in done.promote.detail
    assert two.champion == 1


def act_rollback(world):
    """Roll back."""
    back(world)


def act_freeze(world):
    """Freeze."""
    freeze(world.services, "small", actor="ada", reason="audit", until=None)


def act_thaw(world):
    """Thaw what is frozen; the freeze itself is done on the first call."""
    thaw(world.services, "small", actor="ada", reason="audit is over")


@pytest.mark.parametrize("act", [act_rollback, act_freeze, act_thaw])
def test_a_kill_at_any_write_leaves_nothing_or_one_entry(two, act):
    """Wherever it dies, asking again gives exactly one entry, its anchor and the alias."""
    if act is act_thaw:
        act_freeze(two)
    rehearsal = two.copy(two.folder / "rehearsal")
    rehearsal.arm(Tripwire())
    act(rehearsal)
    writes = rehearsal.store.tripwire.seen
    assert any(what.startswith("create ledger/") for what in writes)
    for at in range(1, len(writes) + 1):
        world = two.copy(two.folder / f"killed-{at}")
        world.arm(Tripwire(at))
        with pytest.raises(Killed):
            act(world)
        world.arm(Tripwire())
        assert len(world.entries) - len(two.entries) in {0, 1}
        act(world)
        assert len(world.entries) == len(two.entries) + 1
        assert world.champion == world.entries[-1].champion.version
        assert world.registry.anchors("small") == {e.seq: e.hash for e in world.entries}


def test_a_frozen_pipeline_judges_and_promotes_nobody(two):
    """The night says who froze it and why; a thaw lets the next one through."""
    freeze(two.services, "small", actor="ada", reason="audit", until=None)
    after = NEXT + timedelta(days=1)
    two.land(after)
    night = two.night(after)
    assert night.gate.verdict.outcome == "PASS"
    assert night.outcome == "refused"
    assert "ada froze it until it is thawed (entry 3): audit" in night.reasons[0]
    thaw(two.services, "small", actor="bob", reason="audit is over")
    assert two.night(after).outcome == "promoted"


def test_rollback_works_while_frozen(two):
    """A freeze is about promotions."""
    freeze(two.services, "small", actor="ada", reason="audit", until=None)
    assert back(two).champion.version == 1
    assert frozen(two.entries, NIGHT)


def test_a_freeze_ends_after_its_last_day(two):
    """The day itself still counts."""
    today = datetime.now(UTC).date()
    entry = freeze(two.services, "small", actor="ada", reason="audit", until=today)
    assert frozen(two.entries, today) == entry
    assert frozen(two.entries, today + timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"until": date(2024, 1, 1)}, "2024-01-01 has passed"), ({"reason": " "}, "needs a reason")],
)
def test_a_freeze_that_makes_no_sense_is_refused(two, asked, says):
    """Nothing is written."""
    with pytest.raises(ActionRefused, match=says):
        freeze(two.services, "small", **{"actor": "ada", "reason": "x", "until": None, **asked})
    assert len(two.entries) == 2


def test_what_is_not_frozen_cannot_be_thawed(two):
    """That is said."""
    with pytest.raises(ActionRefused, match="it is not frozen"):
        thaw(two.services, "small", actor="ada", reason="x")
