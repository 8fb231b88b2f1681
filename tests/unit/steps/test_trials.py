"""The two lanes over whole nights: what is proved is promoted, what is certified is refreshed, and no day is fitted twice."""

from __future__ import annotations

import io
import json
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_world import FIRST, SPEC, QuickTrainer, World

from fakes import Killed, Tripwire
from ratchet.domain import layout
from ratchet.domain.evidence import Member
from ratchet.domain.losses import row_losses
from ratchet.domain.night import NightRequest
from ratchet.domain.statistics import e_process
from ratchet.steps.night import begin, run_step
from ratchet.steps.rollback import roll_back
from ratchet.steps.trial import TrialDay

WINDOW, ROWS, BACK = 20, 60, 7
NIGHT = FIRST + timedelta(days=WINDOW - 1)
ONE = timedelta(days=1)
WEAK = {"training__rounds": 1, "training__params__eta": 0.05}
EVIDENCE = {"kind": "evidence", "loss": "log_loss", "backfill_days": BACK}
LONG = SPEC.replace("days: 8,", f"days: {WINDOW},").replace(
    "evaluation: {",
    "evaluation: {baselines: [average], ",  # what is learnt here is a straight line: a regression knows it best
)


class Counting(QuickTrainer):
    """Remembers the days that each fit learnt from."""

    def __init__(self) -> None:
        super().__init__()
        self.fits: list[tuple[date, date]] = []

    def fit(self, frame, days, plan, query):
        """See ``ports.Trainer.fit``."""
        assert frame.table["dt"].to_pylist()
        self.fits.append((days.fit.first, days.stop.last))
        return super().fit(frame, days, plan, query)


def drifting(day: date, turn: float = 0.12) -> dict[str, object]:
    """Return a day of a world that turns a little every day, so that what is held grows stale."""
    random = np.random.default_rng(day.toordinal())
    x, z, angle = random.normal(size=ROWS), random.normal(size=ROWS), turn * (day - FIRST).days
    noise, place = 0.3 * random.normal(size=ROWS), random.choice(["north", "south"], ROWS)
    # What no turn takes away: a model is always worth more than none.
    stays = np.where(place == "north", 0.7, -0.7) if turn else 0.0
    y = x * np.cos(angle) + z * np.sin(angle) + stays + noise > 0
    return {"rows": ROWS, "x": x, "z": z, "y": y, "place": place}


def world_of(folder, turn=0.12, **knobs) -> World:
    """Return a world under an evidence gate, with a whole window landed."""
    made = World(folder, LONG)
    made.turn = turn
    made.gated({"kind": "bound", "metric": "auc", "at_least": 0.5, "min_rows": 50}, {**EVIDENCE, **knobs})
    for i in range(WINDOW):
        made.land(FIRST + timedelta(days=i), **drifting(FIRST + timedelta(days=i), turn))
    return made


@pytest.fixture(scope="module")
def _turning(tmp_path_factory):
    made = world_of(tmp_path_factory.mktemp("turning"))
    assert made.night(NIGHT).outcome == "promoted"
    return made


@pytest.fixture
def turning(_turning, tmp_path):
    """A world that drifts, in which the first night has made a champion."""
    return copy(_turning, tmp_path)


@pytest.fixture(scope="module")
def _weak(tmp_path_factory):
    made = world_of(tmp_path_factory.mktemp("weak"), turn=0.0)
    assert made.night(NIGHT, pipeline=made.pipeline(**WEAK)).outcome == "promoted"
    return made


@pytest.fixture(scope="module")
def _still(tmp_path_factory):
    made = world_of(tmp_path_factory.mktemp("still"), turn=0.0)
    assert made.night(NIGHT).outcome == "promoted"
    return made


@pytest.fixture
def still(_still, tmp_path):
    """A world that does not drift, in which the first night has made a champion."""
    return copy(_still, tmp_path)


@pytest.fixture
def weak(_weak, tmp_path):
    """A world whose champion is of a poor recipe."""
    return copy(_weak, tmp_path)


def copy(world, folder):
    """Return a world as it is now, that turns as fast."""
    made = world.copy(folder)
    made.turn = world.turn
    return made


def nights(world, count, after=NIGHT, **options):
    """Land and run so many nights, in the kind of world that it is."""
    made, turn = [], world.turn
    for i in range(1, count + 1):
        world.land(after + i * ONE, **drifting(after + i * ONE, turn))
        made.append(world.night(after + i * ONE, **options))
    return made


def proof(night):
    """Return the check of the evidence gate."""
    return next(check for check in night.gate.verdict.checks if check.kind == "evidence")


def tried(world):
    """Return what trials have recorded."""
    return {key: TrialDay.model_validate_json(data) for key, data in world.store.contents("trials/").items()}


def test_refreshing_is_certified_once_and_then_goes_by_itself(turning):
    """From the bootstrap on E is carried from night to night; once it is proved a shadowed challenger is promoted, later ones at once."""
    found = nights(turning, 8)
    first = proof(found[0])
    assert first.outcome == "UNDECIDED"
    assert "refreshing against holding: E = " in first.reason
    assert f"({BACK - 1} of them replayed from history)" in first.reason
    assert len(tried(turning)) == BACK
    turns = [entry.action for entry in turning.entries]
    assert turns[:2] == ["bootstrap", "promote"]
    assert set(turns[2:]) == {"refresh"}
    at = next(i for i, night in enumerate(found) if night.outcome == "promoted")
    certified = turning.entries[1]
    assert certified.certified == found[at].recipe
    assert all(night.outcome == "undecided" for night in found[:at])
    assert all(night.outcome == "promoted" for night in found[at:])
    assert [night.gate.action for night in found[at + 1 :]] == ["refresh"] * (len(found) - at - 1)
    assert "refreshing is certified by ledger entry 2" in proof(found[-1]).reason
    assert turning.champion == found[-1].register_.version.version


def test_a_proof_promotes_who_has_shadowed_long_enough(turning):
    """The candidate is an earlier challenger with enough scored days whose own night spoke for it, never tonight's."""
    found = nights(turning, 8)
    night = next(night for night in found if night.outcome == "promoted")
    who = night.gate.candidate
    assert who.version < night.register_.version.version
    assert turning.entries[1].champion.version == who.version
    shadows = {s.version.version: s for s in night.evaluate.case.trial.shadows}
    assert len(shadows[who.version].days) >= 3
    able = {v: s for v, s in shadows.items() if len(s.days) >= 3}
    common = set.intersection(*(set(s.days) for s in able.values()))
    means = {v: sum(s.days[day]["log_loss"] for day in common) for v, s in able.items()}
    assert means[who.version] == min(means.values())
    assert f"version {who.version} is promoted" in proof(night).reason


def test_a_challenger_whose_own_night_spoke_against_it_is_no_candidate(turning):
    """Of the shadowed challengers those whose bound failed on their own night are passed over."""
    strict = {"kind": "bound", "metric": "auc", "at_least": 0.999, "min_rows": 50}
    gates = json.loads(
        json.dumps([g.model_dump(mode="json", exclude_none=True) for g in turning.pipeline().spec.gates])
    )
    turning.gated(strict, gates[1])
    refused = nights(turning, 5)
    assert {night.outcome for night in refused} == {"refused"}
    turning.gated(*gates)
    (night,) = nights(turning, 1, after=NIGHT + 5 * ONE)
    assert night.outcome == "undecided"
    assert "no sound challenger of this recipe has shadowed for 3 days" in proof(night).reason
    assert all(not shadow.sound for shadow in night.evaluate.case.trial.shadows)


def test_evidence_grows_by_a_night_and_holds_no_day_twice(turning):
    """The walk through history comes first, then each night adds the league's day; every day stands once."""
    found = nights(turning, 4)
    told = [[e.day for e in night.evaluate.case.trial.evidence["log_loss"]] for night in found]
    assert all(days == sorted(set(days)) for days in told)
    assert [len(days) for days in told] == [BACK + i for i in range(4)]
    assert all(later[: len(days)] == days for days, later in pairwise(told))
    evidence = found[-1].evaluate.case.trial.evidence["log_loss"]
    assert [e.challenger for e in evidence] == [0] * BACK + [2, 3, 4]
    assert proof(found[-1]).value == e_process(evidence, margin=0).better


def test_walk_models_are_fitted_before_the_day_that_judges_them(turning):
    """One model is held, one is fitted for each day; none has met its day, and both learn from equally many days."""
    trainer = Counting()
    nights(turning, 1, services=turning.machine("elsewhere", trainer))
    tonight, held, *fresh = trainer.fits
    assert len(fresh) == BACK
    assert tonight[1] == NIGHT + ONE - 3 * ONE
    days = sorted(tried(turning).values(), key=lambda d: d.day)
    assert [last for _, last in fresh] == [d.day - ONE - 3 * ONE for d in days]
    assert held[1] == days[0].day - 2 * ONE - 3 * ONE
    assert {(last - first).days for first, last in [held, *fresh]} == {(held[1] - held[0]).days}
    assert days[-1].day == NIGHT + ONE


def test_the_query_of_a_trial_day_sees_no_later_row(turning, monkeypatch):
    """A query that counts all rows gives a trial's models what they would have counted on the day itself."""
    seen = {}

    class Watching(Counting):
        def predict(self, files, table):
            """See ``ports.Trainer.predict``."""
            if len(days := set(table["dt"].to_pylist())) == 1 and "total" in table.column_names:
                seen.setdefault(days.pop(), set()).update(table["total"].to_pylist())
            return super().predict(files, table)

    monkeypatch.setattr("small_world.SQL", "SELECT row_id, x, z, place, count(*) OVER () AS total FROM rows")
    nights(turning, 1, services=turning.machine("elsewhere", Watching()))
    first = min(seen)
    replayed = {day: totals for day, totals in seen.items() if day <= NIGHT}
    assert len(replayed) >= BACK - 1
    assert all(totals == {((day - FIRST).days) * ROWS} for day, totals in replayed.items())
    assert first > FIRST


def test_a_kill_in_the_middle_of_a_walk_loses_no_day(turning):
    """The process dies at a trial's day; the night run again fits only what is missing, and comes to the same E."""
    turning.land(NIGHT + ONE, **drifting(NIGHT + ONE))
    whole = turning.copy(turning.folder / "whole")
    expected = whole.night(NIGHT + ONE)
    turning.arm(Tripwire())
    counting = [Counting(), Counting()]

    def die(operation, where):
        if operation == "create" and where.startswith("trials/") and len(tried(turning)) == 4:
            raise Killed(where)

    turning.store.tripwire = die
    with pytest.raises(Killed):
        turning.night(NIGHT + ONE, services=turning.machine("one", counting[0]))
    turning.arm(Tripwire())
    assert len(tried(turning)) == 4
    again = turning.night(NIGHT + ONE, services=turning.machine("two", counting[1]))
    assert proof(again) == proof(expected)
    assert turning.store.contents("trials/") == whole.store.contents("trials/")
    assert len(counting[1].fits) == 1 + (BACK - 4)  # the held one, and one for each day that is missing
    assert turning.night(NIGHT + ONE).gate == again.gate


def test_a_dry_run_judges_as_the_night_then_does(turning):
    """A dry run tries the same days and comes to the same verdict, tonight's day included, and leaves nothing behind."""
    nights(turning, 2)
    after = NIGHT + 3 * ONE
    turning.land(after, **drifting(after))
    before = {part: turning.store.contents(part) for part in ("trials/", "evidence/", "fleets/", "recipes/", "runs/")}
    dry = turning.night(after, dry_run=True)
    assert {part: turning.store.contents(part) for part in before} == before
    real = turning.night(after)
    assert dry.gate.verdict == real.gate.verdict
    assert dry.evaluate.case.trial == real.evaluate.case.trial


def test_a_dry_run_of_the_first_walk_records_no_day(turning):
    """Also where a dry run has to make the whole walk it keeps none of it."""
    turning.land(NIGHT + ONE, **drifting(NIGHT + ONE))
    dry = turning.night(NIGHT + ONE, dry_run=True)
    assert tried(turning) == {}
    assert dry.gate.verdict == turning.night(NIGHT + ONE).gate.verdict


def test_a_better_recipe_is_promoted_on_proof_only(weak):
    """A new recipe is tried against the champion's, both refreshed; it serves once it is proved and a challenger has shadowed."""
    found = nights(weak, 5)
    assert [night.evaluate.case.trial.lane for night in found[:4]] == ["recipe"] * 4
    assert "the new recipe against the champion's, both refreshed nightly: E = " in proof(found[0]).reason
    assert proof(found[0]).value >= 20
    assert found[0].outcome == "undecided"
    assert "no sound challenger of this recipe has shadowed for 3 days, the longest for 0" in proof(found[0]).reason
    at = [night.outcome for night in found].index("promoted")
    assert at == 3
    entry = weak.entries[1]
    assert (entry.action, entry.certified) == ("promote", "")
    assert entry.champion.recipe_spec == weak.pipeline().recipe != weak.entries[0].champion.recipe_spec
    assert found[-1].evaluate.case.trial.lane == "refresh"
    assert found[-1].outcome == "undecided"  # that refreshing beats holding is another question


def test_a_worse_recipe_is_never_promoted_and_told(still):
    """A poor recipe fails by the mirrored process: the verdict says who should hear of it, and the champion stays."""
    found = nights(still, 3, pipeline=still.pipeline(**WEAK))
    assert {night.outcome for night in found} <= {"undecided", "refused"}
    assert found[-1].gate.verdict.outcome == "FAIL"
    assert "it is worse, as is proved by E = " in proof(found[-1]).reason
    assert "tell whoever owns the recipe" in proof(found[-1]).reason
    assert still.champion == 1


def test_a_trial_grows_by_a_day_a_night(weak):
    """After its first night a trial fits two models a night for one day more, of the champion's recipe and of the new one."""
    nights(weak, 1)
    trainer = Counting()
    (night,) = nights(weak, 1, after=NIGHT + ONE, services=weak.machine("elsewhere", trainer))
    assert len(trainer.fits) == 3
    assert len(night.evaluate.case.trial.evidence["log_loss"]) == BACK + 1
    assert len(tried(weak)) == BACK + 1


def test_the_past_is_replayed_once_in_a_recipe_s_life(weak):
    """In a later reign the same recipe is tried on days that no trial of it has used."""
    (night,) = nights(weak, 1)
    used = {d.day for d in tried(weak).values()}
    roll = weak.night(NIGHT + ONE, pipeline=weak.pipeline(**WEAK, training__seed=9))
    assert roll.outcome == "undecided"
    other = copy(weak, weak.folder / "next")
    bounds = [g.model_dump(mode="json", exclude_none=True) for g in weak.pipeline().spec.gates[:1]]
    gates = weak.spec
    other.gated(*bounds)
    other.land(NIGHT + 2 * ONE, **drifting(NIGHT + 2 * ONE))
    assert other.night(NIGHT + 2 * ONE, pipeline=other.pipeline(**WEAK)).outcome == "promoted"
    other.spec = gates
    (again,) = nights(other, 1, after=NIGHT + 2 * ONE)
    assert again.evaluate.case.trial.lane == "recipe"
    days = {e.day for e in again.evaluate.case.trial.evidence["log_loss"]}
    assert days == {str(NIGHT + 3 * ONE)}
    assert not days & {str(day) for day in used}
    assert night.recipe == again.recipe


def test_a_recipe_whose_rival_is_not_kept_is_compared_with_the_champion_as_it_serves(weak):
    """Where the champion's recipe cannot be found the league's days are the evidence, and the reason says so."""
    for key in weak.store.keys("recipes/"):
        weak.store.lose(key)
    found = nights(weak, 4)
    assert "the new recipe against the champion as it serves (its recipe was not kept)" in proof(found[-1]).reason
    assert [e.challenger for e in found[-1].evaluate.case.trial.evidence["log_loss"]] == [2, 3, 4][: len(found) - 1]
    assert tried(weak) == {}


def test_a_query_that_leaves_out_the_hard_rows_gains_nothing_by_it(still, monkeypatch):
    """Where champion and challenger have scored other rows, those that both have scored are compared."""
    for key in still.store.keys("recipes/"):
        still.store.lose(key)
    monkeypatch.setattr("small_world.SQL", "SELECT row_id, x, z, place FROM rows WHERE abs(x) > 0.4")
    night = nights(still, 3)[-1]
    assert "as it serves" in proof(night).reason
    told = night.evaluate.case.trial.evidence["log_loss"]
    assert len(told) == 2
    for e in told:
        ours, theirs = (
            pq.read_table(io.BytesIO(still.store.get(layout.scores("small", date.fromisoformat(e.day), version))))
            for version in (e.champion, e.challenger)
        )
        assert ours.num_rows > theirs.num_rows == e.rows
        kept = ours.filter(pc.is_in(ours["row_id"], value_set=theirs["row_id"]))
        means = [
            row_losses("log_loss", side["label"].to_numpy(), side["prediction"].to_numpy()).mean()
            for side in (kept, theirs)
        ]
        assert e.difference == pytest.approx(means[0] - means[1])


def test_a_recipe_that_was_altered_in_the_store_is_not_fitted(weak):
    """What is kept must be the recipe that the ledger names."""
    (key,) = weak.store.keys("recipes/")
    weak.store.rot(key, weak.store.get(key).replace(b'"rounds": 1', b'"rounds": 2'))
    (night,) = nights(weak, 1)
    assert "what is kept as its recipe is another one" in proof(night).reason


@pytest.mark.parametrize("rows", [None, 500])
def test_a_side_that_cannot_be_fitted_makes_no_evidence(turning, rows):
    """A day on which one side has a single class, or too few rows, is left out and told; the others count."""
    if rows is None:
        for i in range(7):
            day = FIRST + timedelta(days=i)
            turning.land(day, **{**drifting(day), "y": np.ones(ROWS, bool)})
        (night,) = nights(turning, 1, pipeline=turning.pipeline(training__seed=4, window__stop_days=10))
        words = "one_class"
    else:
        (night,) = nights(turning, 1, pipeline=turning.pipeline(training__seed=4, window__min_rows=rows))
        words = "too_few_rows"
    trial = night.evaluate.case.trial
    assert trial.without
    assert any(words in reason for reason in trial.without)
    assert "without evidence: " in proof(night).reason
    assert len(trial.evidence["log_loss"]) + len(trial.without) <= BACK


def test_a_rollback_revokes_the_certification(turning):
    """After a rollback refreshing must be proved again, on days of the new reign only."""
    found = nights(turning, 6)
    assert turning.entries[-1].action == "refresh"
    back = roll_back(turning.services, turning.pipeline(), to=None, actor="ada", reason="it looks wrong")
    (night,) = nights(turning, 1, after=NIGHT + 6 * ONE)
    assert night.outcome == "undecided"
    assert "refreshing against holding: E = " in proof(night).reason
    days = [e.day for e in night.evaluate.case.trial.evidence["log_loss"]]
    assert all(day > str(back.judged_through) for day in days)
    assert len(tried(turning)) == BACK
    assert found[-1].outcome == "promoted"


def test_a_challenger_that_a_gate_of_tonight_has_not_tried_is_no_candidate(turning):
    """A bound that was added or tightened since binds whom a proof promotes, and not only tonight's challenger."""
    nights(turning, 3)
    bound, proof_ = (g.model_dump(mode="json", exclude_none=True) for g in turning.pipeline().spec.gates)
    turning.gated({**bound, "at_least": 0.51}, proof_)
    found = nights(turning, 2, after=NIGHT + 3 * ONE)
    (first, second) = ({s.version.version: s.sound for s in n.evaluate.case.trial.shadows} for n in found)
    assert first == {4: False, 3: False, 2: False}
    assert second == {5: found[0].gate.verdict.checks[0].outcome == "PASS", 4: False, 3: False, 2: False}
    assert second[5]


def test_who_was_sent_back_is_no_candidate(turning):
    """A proof after a rollback promotes nobody whom the rollback took back, however well they go on scoring in shadow."""
    nights(turning, 6)
    back = roll_back(turning.services, turning.pipeline(), to=1, actor="ada", reason="it looks wrong")
    gone = {entry.champion.version for entry in turning.entries} - {back.champion.version}
    assert len(gone) > 1
    shadows = {s.version.version: s for s in nights(turning, 3, after=NIGHT + 6 * ONE)[-1].evaluate.case.trial.shadows}
    assert len(gone & shadows.keys()) > 1
    assert not any(shadows[version].sound for version in gone & shadows.keys())
    assert any(shadow.sound for shadow in shadows.values())


def test_a_candidate_whose_artifact_was_tampered_with_is_not_promoted(turning):
    """Whom a proof promotes was tried on another night, so it is looked at again before it serves."""
    for i in range(1, 9):
        turning.land(NIGHT + i * ONE, **drifting(NIGHT + i * ONE))
        night = turning.until("approve", NIGHT + i * ONE)
        if night.gate.verdict.outcome == "PASS":
            break
        turning.night(NIGHT + i * ONE)
    assert night.gate.candidate.version < night.register_.version.version
    turning.registry.tamper(night.gate.candidate.mlflow_run_id)
    night = turning.step("promote", turning.step("approve", night))
    assert not night.promote.promoted
    assert f"version {night.gate.candidate.version} cannot be promoted" in night.promote.detail
    assert [entry.action for entry in turning.entries] == ["bootstrap"]


def test_who_wants_every_refresh_proved_gets_it(tmp_path):
    """With lane: prove a certified recipe is not refreshed by itself; each reign's own days must speak."""
    world = world_of(tmp_path, lane="prove", shadow_nights=1)
    world.night(NIGHT)
    found = nights(world, 7)
    assert {entry.action for entry in world.entries[1:]} == {"promote"}
    at = next(i for i, night in enumerate(found) if night.outcome == "promoted")
    assert found[at + 1].outcome == "undecided"
    assert "refreshing against holding" in proof(found[at + 1]).reason
    assert all(e.day > str(NIGHT + (at + 1) * ONE) for e in found[at + 1].evaluate.case.trial.evidence["log_loss"])


def test_labels_that_come_late_leave_no_day_without_a_challenger(tmp_path):
    """Of a day whose labels took longer than the league is large, a challenger that was made before it is scored too."""
    world = World(
        tmp_path, LONG.replace("max_age_days: 1", "max_age_days: 1, label_delay_days: 4") + "league: {size: 3}\n"
    )
    world.turn = 0.12
    world.gated({"kind": "bound", "metric": "auc", "at_least": 0.5, "min_rows": 50}, {**EVIDENCE, "backfill_days": 0})
    for i in range(WINDOW):
        world.land(FIRST + i * ONE, **drifting(FIRST + i * ONE))
    assert world.night(NIGHT).outcome == "promoted"
    found = nights(world, 7)
    told = [(e.day, e.challenger) for e in found[-1].evaluate.case.trial.evidence["log_loss"]]
    assert told == [(str(NIGHT + 2 * ONE), 2), (str(NIGHT + 3 * ONE), 3)]


def test_without_backfill_the_league_alone_speaks(tmp_path):
    """With backfill_days: 0 nothing is replayed: evidence begins with the first day that a challenger has scored."""
    world = world_of(tmp_path, backfill_days=0)
    world.night(NIGHT)
    found = nights(world, 3)
    assert [len(n.evaluate.case.trial.evidence["log_loss"]) for n in found] == [0, 1, 2]
    assert tried(world) == {}
    (other,) = nights(world, 1, after=NIGHT + 3 * ONE, pipeline=world.pipeline(training__seed=3))
    assert len(other.evaluate.case.trial.evidence["log_loss"]) == 1


def test_a_recipe_that_differs_by_its_seed_only_is_not_promoted(tmp_path):
    """Thirty nights of two recipes that are equally good promote none of them."""
    world = world_of(tmp_path, turn=0.0, lane="prove")
    noisy = {"training__params__subsample": 0.5, "training__params__colsample_bytree": 0.5}
    assert world.night(NIGHT, pipeline=world.pipeline(**noisy)).outcome == "promoted"
    found = nights(world, 30, pipeline=world.pipeline(**noisy, training__seed=99))
    assert "promoted" not in {night.outcome for night in found}
    assert len(found[-1].evaluate.case.trial.evidence["log_loss"]) == BACK + 29
    assert proof(found[-1]).value < 20


def test_changed_code_is_no_new_recipe_but_must_be_certified_again(turning, monkeypatch):
    """With other code the lane stays the same, and refreshing is proved anew, by a walk of its own."""
    found = nights(turning, 6)
    assert proof(found[-1]).reason.startswith("refreshing is certified")
    monkeypatch.setattr("ratchet.steps.night.code_digest", lambda: "other code")
    (night,) = nights(turning, 1, after=NIGHT + 6 * ONE)
    assert night.evaluate.case.trial.lane == "refresh"
    assert night.evaluate.case.trial.certified_by is None
    assert proof(night).outcome == "UNDECIDED"
    assert len(night.evaluate.case.trial.evidence["log_loss"]) == BACK


def test_a_fleet_shares_its_wrong_promotions(weak):
    """Each night leaves its E for the fleet; with many idle members more is asked for, and old values say that they are old."""
    gates = [g.model_dump(mode="json", exclude_none=True) for g in weak.pipeline().spec.gates]
    weak.gated(gates[0], {**gates[1], "fleet": "shops"})
    old = NIGHT - timedelta(days=20)
    for i in range(30):
        member = Member(pipeline=f"shop{i}", cutoff=old if i == 0 else NIGHT, evidence=0.5)
        weak.store.put(layout.fleet_member("shops", f"shop{i}"), member.model_dump_json().encode())
    idle = Member(pipeline="idle", cutoff=NIGHT, evidence=None)
    weak.store.put(layout.fleet_member("shops", "idle"), idle.model_dump_json().encode())
    (night,) = nights(weak, 1)
    check = proof(night)
    assert check.limit == 310
    assert "in fleet shops of 31 (shop0 as of more than 7 days ago)" in check.reason
    mine = Member.model_validate_json(weak.store.get(layout.fleet_member("shops", "small")))
    assert (mine.cutoff, mine.evidence) == (NIGHT + ONE, check.value)
    weak.land(NIGHT + 2 * ONE, **drifting(NIGHT + 2 * ONE))
    weak.night(NIGHT + 2 * ONE, dry_run=True)
    assert Member.model_validate_json(weak.store.get(layout.fleet_member("shops", "small"))) == mine


def test_two_machines_try_the_same_days_together(turning):
    """Of two runs of one night side by side each day is recorded once, and both judge by the same records."""
    turning.land(NIGHT + ONE, **drifting(NIGHT + ONE))
    here, there = turning.machine("here"), turning.machine("there")
    request = NightRequest(pipeline="small", cutoff=NIGHT + ONE, actor="tests")
    nights_ = [begin(request, turning.pipeline()) for _ in range(2)]
    for step in ("snapshot", "validate", "score", "train"):
        nights_ = [
            run_step(step, night, turning.pipeline(), services)
            for night, services in zip(nights_, (here, there), strict=True)
        ]
    rival = []

    def overtake(operation, where):
        if operation == "create" and where.startswith("trials/") and not rival:
            rival.append(None)
            rival[0] = run_step("evaluate", nights_[1], turning.pipeline(), there)

    turning.store.tripwire = overtake
    mine = run_step("evaluate", nights_[0], turning.pipeline(), here)
    assert mine.evaluate == rival[0].evaluate
    assert len(tried(turning)) == BACK
