"""The watch sends a champion back that fresh labels speak against, once, and tells people."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import numpy as np
import pytest
from small_world import NIGHT

from fakes import Killed, Tripwire
from ratchet.domain.alerts import REMEDIES

DAY = timedelta(days=1)
LAX = [{"kind": "bound", "metric": "auc", "at_least": 0.0, "min_rows": 10}]
WEAK = {"gates": LAX, "training__rounds": 1, "training__params": {"max_depth": 1, "eta": 0.03}}
WATCHED = {"rollback__evidence": 1.5, "rollback__min_days": 2, "rollback__min_rows": 20}
STRICT = [{"kind": "bound", "metric": "auc", "at_least": 0.999, "min_rows": 10}]  # nobody is promoted


def weak(world, **more):
    """Return a pipeline whose model learns next to nothing: more than the average alone, and so it is promoted."""
    return world.pipeline(**WEAK, **WATCHED, **more)


def kept(world):
    """Return what alerts there are, by kind."""
    return {json.loads(data)["kind"]: json.loads(data) for data in world.store.contents("alerts/").values()}


@pytest.fixture(scope="session")
def _worse(tmp_path_factory, _reigning):
    """A world in which a champion that learnt nothing has taken the place of a good one, and a day has passed."""
    made = _reigning.copy(tmp_path_factory.mktemp("worse"))
    for i in (1, 2):
        made.land(NIGHT + i * DAY)
    assert made.night(NIGHT + DAY, pipeline=weak(made)).outcome == "promoted"
    judged = made.night(NIGHT + 2 * DAY, pipeline=made.pipeline(gates=STRICT, **WATCHED))
    assert judged.outcome == "refused"
    assert judged.score.rolled_back is None
    made.land(NIGHT + 3 * DAY)
    return made


@pytest.fixture
def worse(_worse, tmp_path):
    """As ``_worse``."""
    return _worse.copy(tmp_path)


def third(world, **more):
    """Run the night on which the evidence suffices."""
    return world.night(NIGHT + 3 * DAY, pipeline=world.pipeline(gates=STRICT, **{**WATCHED, **more}))


def test_a_champion_that_is_proved_worse_is_sent_back(worse):
    """The ledger says by whom and with which numbers, and the same night judges against the champion that is back."""
    night = third(worse, rollback__automatic=True)
    entry = worse.entries[-1]
    assert (entry.action, entry.actor, entry.champion.version) == ("rollback", "watch", 1)
    assert "version 2 is worse by log_loss than its predecessor, version 1: E =" in entry.reason
    assert (entry.night, entry.judged_through) == (night.run_key, NIGHT + 3 * DAY)
    assert (night.score.champion.version, night.score.reign) == (1, entry.seq)
    assert entry.reason in night.score.rolled_back
    assert worse.champion == 1
    assert night.outcome == "refused"


def test_people_are_told_of_a_rollback(worse, caplog):
    """The alert is in the log, with the night, in the store, and was delivered once."""
    sent = []
    worse.services.alerter.send = sent.append
    with caplog.at_level(logging.ERROR, logger="ratchet.alerts"):
        night = third(worse, rollback__automatic=True)
    assert [a.kind for a in night.alerts] == ["rolled_back"]
    assert [m["kind"] for m in sent] == ["rolled_back"]
    assert "version 1 serves again" in caplog.text
    assert kept(worse)["rolled_back"]["words"] == night.score.rolled_back
    third(worse, rollback__automatic=True)
    assert len(sent) == 1


def test_where_the_spec_does_not_allow_it_people_are_told_only(worse):
    """The champion stays, and the alert names the command."""
    night = third(worse)
    assert len(worse.entries) == 2
    assert night.score.rolled_back is None
    assert [a.kind for a in night.alerts] == ["rollback_due"]
    assert "rollback.automatic is off" in night.alerts[0].words
    assert "ratchet rollback small" in kept(worse)["rollback_due"]["remedy"]


def test_a_dry_run_sends_nobody_back(worse):
    """It changes nothing, and tells nobody."""
    before = worse.state()
    night = worse.night(
        NIGHT + 3 * DAY,
        pipeline=worse.pipeline(gates=STRICT, rollback__automatic=True, **WATCHED),
        dry_run=True,
    )
    assert night.score.champion.version == 2
    assert worse.state() == before
    assert not kept(worse)


def test_a_kill_at_any_write_sends_it_back_once(worse):
    """Wherever the night dies before its training, running it again has one rollback and one alert."""
    rehearsal = worse.copy(worse.folder / "rehearsal")
    rehearsal.arm(Tripwire())
    third(rehearsal, rollback__automatic=True)
    writes = rehearsal.store.tripwire.seen
    last = next(i for i, what in enumerate(writes) if what.startswith("create runs/") and what.endswith("score.json"))
    assert any(what.startswith("create ledger/") for what in writes[:last])
    for at in range(1, last + 3):
        world = worse.copy(worse.folder / f"killed-{at}")
        world.arm(Tripwire(at))
        with pytest.raises(Killed):
            third(world, rollback__automatic=True)
        world.arm(Tripwire())
        night = third(world, rollback__automatic=True)
        assert [e.action for e in world.entries] == ["bootstrap", "promote", "rollback"], writes[at - 1]
        assert night.score.rolled_back
        assert night.score.champion.version == world.champion == 1
        assert set(kept(world)) == {"rolled_back"}


def test_a_standby_that_cannot_serve_is_not_returned_to(worse):
    """The rollback is refused as a person's would be, and people are told why."""
    first = worse.entries[0].champion
    worse.registry.download(first.mlflow_run_id, first.artifact_digest)  # the copy that scores in shadow is whole
    model = worse.registry.runs[first.mlflow_run_id].model
    model["booster.ubj"] = bytes([model["booster.ubj"][0] ^ 1]) + model["booster.ubj"][1:]
    night = third(worse, rollback__automatic=True, rollback__evidence=1.4)
    assert len(worse.entries) == 2
    assert [a.kind for a in night.alerts] == ["rollback_due"]
    assert "recorded was" in night.alerts[0].words


def test_a_streak_of_refreshes_is_watched_against_the_champion_before_it(worse):
    """Each day's serving model counts, and a rollback goes to the streak's base, not to yesterday's refresh."""
    entries = worse.entries
    key = "ledger/small/00000002.json"
    made = entries[1].model_copy(update={"action": "refresh"}).sealed()
    worse.store.put(key, made.model_dump_json(indent=1).encode())
    worse.registry.anchor("small", 2, made.hash)
    night = third(worse, rollback__automatic=True, rollback__wrong_alarms_per_quarter=60.0)
    assert worse.entries[-1].action == "rollback"
    assert "refreshed models are worse by log_loss than version 1, which served before them: R reached" in (
        night.score.rolled_back
    )


def test_a_base_rate_out_of_bounds_sends_the_champion_back_at_once(worse):
    """One day suffices: a circuit breaker does not wait for proof, and names the bound."""
    night = worse.night(
        NIGHT + 3 * DAY,
        pipeline=worse.pipeline(
            gates=STRICT, rollback__automatic=True, rollback__base_rate=[0.55, 0.99], rollback__min_rows=20
        ),
    )
    assert worse.entries[-1].action == "rollback"
    assert "outside [0.55, 0.99] (rollback.base_rate)" in night.score.rolled_back


def test_bounds_that_both_have_left_are_the_datas_fault(worse):
    """To go back would not help, so nobody is sent back and people are told."""
    night = worse.night(
        NIGHT + 3 * DAY,
        pipeline=worse.pipeline(
            gates=STRICT, rollback__automatic=True, rollback__base_rate=[0.98, 0.99], rollback__min_rows=20
        ),
    )
    assert len(worse.entries) == 2
    assert [a.kind for a in night.alerts] == ["rollback_due"]
    assert "so has its predecessor" in night.alerts[0].words


def test_a_day_of_few_rows_trips_nothing(worse):
    """Its numbers say too little by themselves."""
    night = worse.night(
        NIGHT + 3 * DAY,
        pipeline=worse.pipeline(gates=STRICT, rollback__automatic=True, rollback__base_rate=[0.98, 0.99]),
    )
    assert night.alerts == ()


@pytest.mark.parametrize("automatic", [True, False])
def test_a_champion_whose_artifact_was_tampered_with_is_told_of(worse, automatic):
    """Where the spec allows it the predecessor serves again; otherwise a person decides, and the verdict stays open."""
    worse.registry.tamper(worse.entries[1].champion.mlflow_run_id)
    night = third(worse, rollback__automatic=automatic, rollback__evidence=1e6)
    if automatic:
        assert worse.entries[-1].action == "rollback"
        assert [a.kind for a in night.alerts] == ["rolled_back"]
    else:
        assert [a.kind for a in night.alerts] == ["champion_broken"]
        assert night.gate.verdict.outcome != "PASS"
    assert "recorded was" in night.alerts[0].words


@pytest.mark.parametrize("broken", [True, False])
def test_nobody_is_told_to_go_back_where_nobody_served_before(reigning, broken):
    """The first champion has no predecessor: the alert says what else there is to do."""
    reigning.land(NIGHT + DAY)
    if broken:
        reigning.registry.tamper(reigning.entries[0].champion.mlflow_run_id)
    bounds = {} if broken else {"rollback__base_rate": [0.98, 0.99]}
    night = reigning.night(NIGHT + DAY, pipeline=reigning.pipeline(gates=STRICT, **{**WATCHED, **bounds}))
    (alert,) = night.alerts
    assert alert.kind == ("champion_broken" if broken else "rollback_due")
    assert "nobody served before it" in alert.words
    assert "ratchet rollback" not in alert.remedy
    assert "there is nobody to go back to" in kept(reigning)[alert.kind]["remedy"]


def test_an_alias_moved_by_hand_is_set_right_and_told_of(worse):
    """The night's record says so."""
    worse.registry.set_alias("small", "champion", 1)
    night = third(worse, rollback__evidence=1e6)
    assert worse.champion == 2
    assert "pointed at version 1" in night.score.repaired
    assert [a.kind for a in night.alerts] == ["alias_moved"]
    assert "--adopt" in kept(worse)["alias_moved"]["remedy"]


def test_a_broken_ledger_is_told_of(worse):
    """The night fails, and the alert is there, in words that end as other alerts' do: what to do follows them."""
    worse.store.put(
        "ledger/small/00000001.json", worse.store.get("ledger/small/00000001.json").replace(b"tests", b"other")
    )
    with pytest.raises(Exception, match="does not match its hash"):
        third(worse)
    assert set(kept(worse)) == {"ledger_broken"}
    assert kept(worse)["ledger_broken"]["words"].endswith("then run again")


def test_an_alert_that_cannot_be_delivered_fails_nothing(worse):
    """What went wrong is kept with it."""
    worse.services.alerter.send = lambda message: "nobody.example did not take it (ConnectError)"
    third(worse)
    assert kept(worse)["rollback_due"]["undelivered"] == "nobody.example did not take it (ConnectError)"


def test_a_night_of_the_past_sends_nobody_back(worse):
    """What it sees is older than what the reign was judged on."""
    old = NIGHT + DAY
    night = worse.night(
        old, pipeline=worse.pipeline(gates=STRICT, rollback__automatic=True, training__seed=9, **WATCHED)
    )
    assert night.score.rolled_back is None
    assert len(worse.entries) == 2


def test_every_alert_says_what_to_do():
    """No kind is without a remedy."""
    assert all(REMEDIES.values())
    assert np.unique(list(REMEDIES)).size == len(REMEDIES)
