"""What people may do: override an UNDECIDED, approve, adopt an alias set by hand; and what nobody may."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from small_world import NIGHT

from fakes import Killed, Tripwire
from ratchet.domain.night import ApproveResult
from ratchet.errors import ActionRefused
from ratchet.steps.adopt import adopt
from ratchet.steps.approve import asks
from ratchet.steps.freeze import freeze, thaw
from ratchet.steps.promote import promote_version

NEXT = NIGHT + timedelta(days=1)
AFTER = NIGHT + timedelta(days=2)
BOUND = {"kind": "bound", "metric": "auc", "at_least": 0.5, "min_rows": 50}
OPEN = [BOUND, {**BOUND, "min_rows": 100_000}]  # nothing fails, and one gate cannot decide
LET = {"gates": OPEN, "override__allowed": ["tests", "ada"]}


def overriding(world, **spec):
    """Run a night that cannot decide, and ask for an override."""
    world.land(NEXT)
    return world.night(NEXT, pipeline=world.pipeline(**{**LET, **spec}), override=True, reason="it is fine")


def undecided(world, **spec):
    """Run a night that cannot decide."""
    world.land(NEXT)
    night = world.night(NEXT, pipeline=world.pipeline(**{**LET, **spec}))
    assert night.outcome == "undecided"
    return night


def test_an_undecided_is_promoted_by_somebody_who_may(reigning):
    """The ledger says who, why, and what spoke against it."""
    night = overriding(reigning)
    assert night.outcome == "promoted"
    entry = reigning.entries[-1]
    assert (entry.action, entry.actor, entry.reason, entry.champion.version) == ("override", "tests", "it is fine", 2)
    assert entry.reasons == night.gate.verdict.reasons
    assert "only 120 rows" in entry.reasons[0]
    assert night.reasons == ("overridden by tests: it is fine", *entry.reasons)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"override__allowed": ["ada"]}, "tests may not override an UNDECIDED of small; these may .*: ada"),
        ({"override__allowed": []}, "override.allowed names nobody"),
        ({"gates": [BOUND, {**BOUND, "at_least": 0.999}]}, "auc ≥ 0.999"),
    ],
)
def test_who_may_not_override_is_told_who_may(reigning, spec, says):
    """The verdict stands, and its reasons stay beside the refusal."""
    night = overriding(reigning, **spec)
    assert night.outcome in {"undecided", "refused"}
    assert len(reigning.entries) == 1
    assert re.search(says, " ".join((night.promote.detail if night.promote else "", *night.reasons)))


def test_a_failed_smoke_test_is_never_overridden(reigning):
    """An artifact that does not give the evaluated predictions serves nobody."""

    class Wrong(type(reigning.services.trainer)):
        def smoke(self, folder, digest, rows, expected):
            from ratchet.ports import Tried

            return Tried(problem="predictions differ")

    reigning.land(NEXT)
    asked = {"override": True, "reason": "it is fine"}
    night = reigning.night(NEXT, reigning.machine("cache", Wrong()), reigning.pipeline(**LET), **asked)
    assert night.outcome != "promoted"
    assert len(reigning.entries) == 1


def test_an_override_needs_a_reason(reigning):
    """Without one nobody is promoted."""
    reigning.land(NEXT)
    night = reigning.night(NEXT, pipeline=reigning.pipeline(**LET), override=True, reason=" ")
    assert "an override needs a reason" in night.reasons[-1]
    assert len(reigning.entries) == 1


def promote(world, version=2, **asked):
    """Promote a version of a recorded night."""
    asked = {"actor": "ada", "reason": "looked at it", **asked}
    return promote_version(world.services, world.pipeline(**LET), version, **asked)


def test_a_recorded_undecided_is_promoted_later(reigning):
    """Its night is read again, and the entry is an override by who asked."""
    undecided(reigning)
    night = promote(reigning)
    entry = reigning.entries[-1]
    assert (entry.action, entry.actor, entry.champion.version) == ("override", "ada", 2)
    assert entry.night == night.run_key
    assert reigning.champion == 2
    assert promote(reigning).promote.entry == entry.seq
    assert len(reigning.entries) == 2


def test_a_version_whose_bytes_were_changed_is_not_promoted(reigning):
    """The digest is checked on fresh bytes."""
    undecided(reigning)
    reigning.registry.tamper(reigning.registry.versions("small")[0].mlflow_run_id)
    with pytest.raises(ActionRefused, match=r"version 2 cannot be promoted: .*recorded was"):
        promote(reigning)
    assert len(reigning.entries) == 1


def test_a_version_whose_tags_were_changed_is_not_promoted(reigning):
    """What the night has registered counts, not what the registry says now."""
    undecided(reigning)
    versions = reigning.registry._versions["small"]
    versions[2] = versions[2].model_copy(update={"artifact_digest": versions[1].artifact_digest})
    with pytest.raises(ActionRefused, match="not what its night registered"):
        promote(reigning)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"actor": "eve"}, "eve may not override .*tests, ada"),
        ({"reason": " "}, "needs a reason"),
        ({"version": 9}, "no version 9 of ours; the newest are: 2, 1"),
        ({"version": 1}, "the night of version 1 passed"),
    ],
)
def test_what_may_not_be_promoted_is_refused_in_words(reigning, asked, says):
    """Nothing is written."""
    undecided(reigning)
    with pytest.raises(ActionRefused, match=says):
        promote(reigning, **asked)
    assert len(reigning.entries) == 1


def test_a_recorded_fail_is_never_promoted(reigning):
    """No reason makes up for it."""
    reigning.land(NEXT)
    reigning.night(NEXT, pipeline=reigning.pipeline(gates=[{**BOUND, "at_least": 0.999}]))
    with pytest.raises(ActionRefused, match="FAIL and cannot be overridden"):
        promote(reigning)


def test_an_old_undecided_is_superseded_by_a_new_champion(reigning):
    """It was judged against a reign that has ended."""
    undecided(reigning)
    reigning.land(AFTER)
    assert reigning.night(AFTER).outcome == "promoted"
    with pytest.raises(ActionRefused, match="superseded"):
        promote(reigning)


def test_a_freeze_holds_back_an_override(reigning):
    """No promotion means none."""
    undecided(reigning)
    freeze(reigning.services, "small", actor="ada", reason="audit", until=None)
    with pytest.raises(ActionRefused, match="frozen: ada froze it"):
        promote(reigning)


def test_a_freeze_that_comes_at_the_last_moment_holds(reigning):
    """The promoter that finds its number taken plans again, and finds the freeze."""
    reigning.land(NEXT)
    night = reigning.until("promote", NEXT)

    def overtake(operation, where):
        if operation == "create" and where.startswith("ledger/"):
            reigning.store.tripwire = Tripwire()
            freeze(reigning.services, "small", actor="ada", reason="audit", until=None)

    reigning.store.tripwire = overtake
    assert "frozen: ada froze it" in reigning.step("promote", night).promote.detail
    assert [e.action for e in reigning.entries] == ["bootstrap", "freeze"]


def judged(world, **spec):
    """Run a night up to its approval."""
    world.land(NEXT)
    pipeline = world.pipeline(**spec)
    return pipeline, world.until("approve", NEXT, pipeline=pipeline)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"approval__when": []}, None),
        ({"approval__when": ["always"]}, "before every promotion"),
        ({"approval__when": ["bootstrap"]}, None),
        ({"approval__when": ["override"]}, None),
        (
            {"approval": {"when": ["small_gain"], "small_gain": 9.0}},
            "the mean daily gain in log_loss .* below approval.small_gain 9",
        ),
        ({"approval__when": ["slice_worse"]}, ...),
    ],
)
def test_a_person_is_asked_where_the_spec_says(reigning, spec, says):
    """Each condition gives one sentence, with its numbers."""
    pipeline, night = judged(reigning, **spec)
    found = asks(pipeline, night)
    if says is None:
        assert found == ()
    elif says is ...:
        worse = [v for values in night.evaluate.case.slices["place"].values() for v in (values["log_loss"],)]
        means = [sum(d.champion - d.challenger for d in days) / len(days) for days in worse if days]
        assert bool(found) == any(mean < 0 for mean in means)
    else:
        assert len(found) == 1
        assert re.search(says, found[0])


def test_the_first_champion_asks_where_the_spec_says(world):
    """The bootstrap has nothing to gain on, so only its own condition speaks."""
    pipeline = world.pipeline(approval__when=["bootstrap", "small_gain", "slice_worse"])
    night = world.until("approve", pipeline=pipeline)
    assert asks(pipeline, night) == ("it would be the first champion",)


def test_a_gain_that_cannot_be_told_asks_a_person(reigning):
    """What could not be measured is not small by luck."""
    pipeline, night = judged(reigning, approval={"when": ["small_gain", "slice_worse"], "small_gain": 0.0})
    case = night.evaluate.case.model_copy(update={"paired": {}, "slices": {}})
    night = night.with_result("evaluate", night.evaluate.model_copy(update={"case": case}))
    assert [said.partition(" cannot be told")[1] for said in asks(pipeline, night)] == [" cannot be told"] * 2


def test_without_airflow_a_night_that_needs_a_person_ends_refused(reigning):
    """It says why a person is needed."""
    reigning.land(NEXT)
    night = reigning.night(NEXT, pipeline=reigning.pipeline(approval__when=["always"]))
    assert night.outcome == "refused"
    assert "the spec asks for a person before every promotion" in night.reasons[0]
    assert night.approve.why == ("the spec asks for a person before every promotion",)
    assert len(reigning.entries) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "nobody was asked"),
        (ApproveResult(required=False, approved=True), "no person has answered"),
        (ApproveResult(required=True, approved=True), "no person has answered"),
        (ApproveResult(required=True, approved=False, who="ada", reason="no"), "not approved: no"),
        (ApproveResult(required=True, approved=True, who="eve"), "eve may not approve; these may .*: ada"),
    ],
)
def test_no_answer_that_is_not_a_persons_yes_promotes(reigning, answer, says):
    """Whatever a trigger rule has skipped or a task has handed on, promote looks again."""
    pipeline, night = judged(reigning, approval={"when": ["always"], "approvers": ["ada"]})
    night = night.model_copy(update={"approve": answer})
    done = reigning.step("promote", night, pipeline=pipeline)
    assert not done.promote.promoted
    assert re.search(says, done.promote.detail)
    assert len(reigning.entries) == 1


def test_a_persons_yes_goes_to_the_ledger(reigning):
    """Who said it is in the entry."""
    pipeline, night = judged(reigning, approval={"when": ["always"], "approvers": ["ada"]})
    night = night.model_copy(update={"approve": ApproveResult(required=True, approved=True, who="ada")})
    assert reigning.step("promote", night, pipeline=pipeline).promote.promoted
    assert reigning.entries[-1].approved_by == "ada"


def test_an_override_asks_a_person_where_the_spec_says(reigning):
    """Who overrides does not approve of it themselves."""
    night = overriding(reigning, approval__when=["override"])
    assert night.outcome != "promoted"
    assert "tests overrides an UNDECIDED: it is fine" in night.approve.why[0]
    assert len(reigning.entries) == 1


def moved(world, gates=OPEN):
    """Set the alias by hand to a version that a night has not let through."""
    world.land(NEXT)
    world.night(NEXT, pipeline=world.pipeline(gates=gates))
    world.registry.set_alias("small", "champion", 2)
    return world


def take(world, allowed=("ada",), **asked):
    """Adopt it."""
    pipeline = world.pipeline(override__allowed=list(allowed))
    return adopt(world.services, pipeline, **{"actor": "ada", "reason": "on purpose", **asked})


def test_an_alias_set_by_hand_is_adopted_in_the_open(reigning):
    """The ledger says who and why, and what was tried."""
    entry = take(moved(reigning))
    assert (entry.action, entry.champion.version, entry.actor, entry.reason) == ("adopt", 2, "ada", "on purpose")
    assert entry.judged_through == NEXT
    assert "loaded afresh and scored" in entry.reasons[-1]
    assert entry.reasons[1].startswith(
        "its own night's verdict was UNDECIDED: auc"
    )  # who adopts it takes that upon himself
    assert reigning.champion == 2
    assert take(reigning) == entry


def forgotten(world):
    """Lose what is on record of the verdict."""
    for key in [*world.store.keys("nights/"), *(key for key in world.store.keys("runs/") if key.endswith("gate.json"))]:
        world.store.delete(key)


@pytest.mark.parametrize(
    ("gates", "lose", "allowed", "says"),
    [
        (
            OPEN,
            False,
            (),
            "version 2: its own night's verdict was UNDECIDED: .*; ada may not override .*; override.allowed names nobody",
        ),
        (OPEN, False, ("bob",), r"these may \(override.allowed\): bob"),
        (OPEN, True, (), "no verdict of its own night is on record; ada may not override"),
        (
            [{**BOUND, "at_least": 0.999}],
            False,
            ("ada",),
            "its own night's verdict was FAIL: .*; nothing overrides that",
        ),
    ],
)
def test_an_adoption_needs_no_less_than_a_promotion(reigning, gates, lose, allowed, says):
    """Whoever may move an alias may not thereby promote what the gates have not let through, unless the spec names them; a FAIL never."""
    moved(reigning, gates)
    if lose:
        forgotten(reigning)
    with pytest.raises(ActionRefused, match=says):
        take(reigning, allowed)
    assert len(reigning.entries) == 1


def test_what_its_night_has_passed_anybody_may_adopt(reigning):
    """The gates have let it through: who serves was left open only because somebody was faster, or refused."""
    reigning.land(NEXT)
    freeze(reigning.services, "small", actor="bob", reason="audit", until=None)
    reigning.night(NEXT, pipeline=reigning.pipeline(gates=[BOUND]))
    thaw(reigning.services, "small", actor="bob", reason="done")
    reigning.registry.set_alias("small", "champion", 2)
    entry = take(reigning, ())
    assert (entry.action, entry.champion.version) == ("adopt", 2)
    assert entry.reasons[1] == "its own night's verdict was PASS"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda w: w.registry.set_alias("small", "champion", 1), "names version 1, which is the champion"),
        (lambda w: w.registry.set_alias("small", "champion", 7), "version 7 lacks the tags"),
        (lambda w: w.registry._aliases["small"].pop("champion"), "there is no alias champion"),
        (lambda w: w.registry.tamper(w.registry.versions("small")[0].mlflow_run_id), "recorded was"),
        (lambda w: freeze(w.services, "small", actor="bob", reason="audit", until=None), None),
    ],
)
def test_what_cannot_be_adopted_is_refused_in_words(reigning, spoil, says):
    """Nothing is written."""
    spoil(moved(reigning))
    before = len(reigning.entries)
    with pytest.raises(ActionRefused, match=says or "which is the champion"):  # a freeze sets the alias right
        take(reigning)
    assert len(reigning.entries) == before


def test_a_version_tagged_with_another_digest_is_not_adopted(reigning):
    """What its night has trained counts."""
    moved(reigning)
    versions = reigning.registry._versions["small"]
    versions[2] = versions[2].model_copy(update={"artifact_digest": versions[1].artifact_digest})
    with pytest.raises(ActionRefused, match="its night has trained"):
        take(reigning)


@pytest.mark.parametrize("act", [take, promote])
def test_a_kill_at_any_write_leaves_nothing_or_one_entry(reigning, act):
    """Wherever it dies, asking again gives exactly one entry."""
    (moved if act is take else undecided)(reigning)
    rehearsal = reigning.copy(reigning.folder / "rehearsal")
    rehearsal.arm(Tripwire())
    act(rehearsal)
    writes = rehearsal.store.tripwire.seen
    assert any(what.startswith("create ledger/") for what in writes)
    for at in range(1, len(writes) + 1):
        world = reigning.copy(reigning.folder / f"killed-{at}")
        world.arm(Tripwire(at))
        with pytest.raises(Killed):
            act(world)
        world.arm(Tripwire())
        act(world)
        assert len(world.entries) == 2
        assert world.champion == world.entries[-1].champion.version == 2
