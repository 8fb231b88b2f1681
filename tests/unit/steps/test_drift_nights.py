"""Drift in whole nights: what is kept with a model, what is found, and who hears of it."""

from __future__ import annotations

import json
from datetime import date, timedelta

import numpy as np
import pytest
import yaml
from small_world import FIRST, World

from ratchet.domain.checks import Outcome
from ratchet.domain.profiles import PREDICTION, RARE, Profile, feature

DAY = timedelta(days=1)
WINDOW, ROWS = 50, 60
BOOT = FIRST + (WINDOW - 1) * DAY  # the first night
BREAK = BOOT + 2 * DAY  # the first day on which x lies elsewhere
BOOTS = {"window__days": WINDOW, "gates": [{"kind": "bound", "metric": "auc", "at_least": 0.55, "min_rows": 50}]}
STAYS = {"window__days": WINDOW, "gates": [{"kind": "bound", "metric": "auc", "at_least": 0.9999, "min_rows": 50}]}


def land(world: World, day: date, moved: float = 0.0, z: float = 0.0) -> None:
    """Land a day of which x may lie elsewhere, or z, on which the label does not depend."""
    rng = np.random.default_rng(day.toordinal())
    x = rng.normal(size=ROWS)
    hot = x + 0.5 * rng.normal(size=ROWS) > 0
    world.land(day, rows=ROWS, x=x + moved, z=rng.normal(size=ROWS) + z, y=hot)


def night(world: World, cutoff: date, **overrides):
    """Run a night whose champion stays."""
    dry = overrides.pop("dry_run", False)
    return world.night(cutoff, pipeline=world.pipeline(**{**STAYS, **overrides}), dry_run=dry)


@pytest.fixture(scope="module")
def _long(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("long"))
    for i in range((BREAK - FIRST).days + 12):
        day = FIRST + i * DAY
        land(made, day, 3.0 if day >= BREAK else 0.0)
    assert night(made, BOOT, **BOOTS).outcome == "promoted"
    return made


@pytest.fixture
def world(_long, tmp_path):
    """A world with a champion of 50 days, after which one quiet day comes, and then a break."""
    return _long.copy(tmp_path)


def reference(world: World) -> Profile:
    """Return what is kept of the champion."""
    (key,) = [k for k in world.store.keys("profiles/") if k.startswith(f"profiles/small/{BOOT}/") and "fresh" not in k]
    return Profile.model_validate_json(world.store.get(key))


def fresh(world: World) -> dict[str, dict]:
    """Return the days that were counted since."""
    (key,) = [k for k in world.store.keys(f"profiles/small/{BOOT}/") if k.endswith("-fresh.json")]
    return json.loads(world.store.get(key))["days"]


def test_a_model_is_kept_with_what_it_was_trained_on(world):
    """Its profile lies in the bucket and with its MLflow run, counts every row of the window, and names no rare value."""
    kept = reference(world)
    run = world.registry.runs[world.entries[0].champion.mlflow_run_id]
    assert Profile.model_validate_json(run.files["drift/reference.json"]) == kept
    assert set(kept.bins) == {"label", "prediction", feature("x"), feature("z"), feature("place")}
    assert kept.bins[feature("place")].values == ("north", "south")
    for subject in ("label", feature("x"), feature("place")):
        assert kept.pooled(subject, FIRST, BOOT).sum() == WINDOW * ROWS
    assert kept.pooled(PREDICTION, FIRST, BOOT).sum() == 5 * ROWS  # of days that no tree was grown on
    assert RARE > 1


def test_a_break_is_found_on_its_second_night(world):
    """The champion stays, so each night compares with it: quiet, once seen, found; MLflow, the record and an alert tell it."""
    quiet, seen = night(world, BREAK - DAY), night(world, BREAK)
    assert [n.score.drift.state for n in (quiet, seen)] == ["quiet", "quiet"]
    assert not [a for n in (quiet, seen) for a in n.alerts]
    found = night(world, BREAK + DAY)
    drift = found.score.drift
    assert (drift.state, drift.champion, drift.day, drift.since) == ("drift", 1, BREAK + DAY, BREAK + DAY)
    assert drift.subjects[0].subject == feature("x")
    assert sum(drift.subjects[0].after[-3:-1]) > sum(drift.subjects[0].before[-3:-1]) + 0.5
    assert [a.kind for a in found.alerts] == ["drift"]
    assert "feature x" in found.alerts[0].words
    assert [f.kind for f in found.findings][:1] == ["drift"]
    logged = world.registry.runs[found.train.mlflow_run_id].metrics
    assert logged["drift.drifted"] == 1.0
    assert logged["drift.training.psi.feature x"] > 1
    assert logged["drift.score"] > logged.get("drift.limit", 0.0)


def test_an_episode_is_told_once_a_week(world):
    """While it lasts each night says so, and people hear of it when it begins and after a week."""
    told = [bool(night(world, BREAK + i * DAY).alerts) for i in range(10)]
    assert told == [False, True, *[False] * 7, True]


def test_drift_holds_where_the_spec_says_so(world):
    """A model of days that the days before did not look like is not promoted, though every gate passes; a person may override."""
    for day in (BREAK, BREAK + DAY):
        land(world, day, z=3.0)  # what is predicted is as good as ever
    for action, outcome in (("hold", Outcome.UNDECIDED), ("warn", Outcome.PASS)):
        judged = night(world, BREAK + DAY, **BOOTS, drift__action=action, dry_run=True).gate.verdict
        assert judged.outcome is outcome
        data = [c.name for c in judged.checks if c.kind == "data"]
        assert any("feature z" in name for name in data) == (action == "hold")


def test_a_day_is_counted_once(world):
    """What was counted is not counted again; a day whose bytes were corrected is."""
    night(world, BREAK - DAY)
    before = fresh(world)
    assert list(before) == [str(BREAK - DAY)]
    key = next(k for k in world.store.keys(f"profiles/small/{BOOT}/") if k.endswith("-fresh.json"))
    planted = json.loads(world.store.get(key))
    planted["days"][str(BREAK - DAY)]["counts"]["label"] = [0, 7, 0, 0, 0, 0]
    world.store.put(key, json.dumps(planted).encode())
    night(world, BREAK)
    assert fresh(world)[str(BREAK - DAY)]["counts"]["label"] == [0, 7, 0, 0, 0, 0]
    land(world, BREAK - DAY, 1.0)
    night(world, BREAK + DAY)
    after = fresh(world)
    assert sum(after[str(BREAK - DAY)]["counts"]["label"]) == ROWS
    assert list(after) == [str(BREAK + i * DAY) for i in (-1, 0, 1)]


def test_a_profile_that_is_lost_is_made_again(world):
    """A champion of before there were profiles, or whose profile is gone, is compared by the days of its training still there."""
    for key in world.store.keys("profiles/"):
        world.store.lose(key)
    night(world, BREAK)
    assert night(world, BREAK + DAY).score.drift.state == "drift"
    assert reference(world).pooled("label", FIRST, BOOT).sum() == (WINDOW - 2) * ROWS


def test_a_damaged_profile_is_made_again(world):
    """Bytes that are no profile fail no night."""
    for key in world.store.keys("profiles/"):
        world.store.put(key, b"{")
    assert night(world, BREAK).score.drift.state == "quiet"


def test_the_same_night_finds_the_same(world):
    """On another machine, with nothing cached, drift and profile are the same to the last bit."""
    first = night(world, BREAK + DAY)
    profiles = world.store.contents("profiles/")
    for key in [*world.store.keys("runs/"), *world.store.keys("profiles/small/")]:
        if str(BREAK + DAY) in key or key.endswith("-fresh.json") or f"/{first.run_key}/" in key:
            world.store.lose(key)
    again = world.night(BREAK + DAY, world.machine("elsewhere"), world.pipeline(**STAYS))
    assert again.score.drift == first.score.drift
    assert world.store.contents("profiles/") == profiles


def test_a_dry_run_keeps_nothing(world):
    """A dry run says what it finds, and leaves no profile and tells nobody."""
    before = world.store.contents("profiles/"), world.store.keys("alerts/")
    assert night(world, BREAK + DAY, dry_run=True).score.drift.state == "drift"
    assert (world.store.contents("profiles/"), world.store.keys("alerts/")) == before


def test_off_is_off(world):
    """Where the spec says off nothing is compared; a profile is kept all the same, for the day on which it says otherwise."""
    found = night(world, BREAK + DAY, drift__action="off")
    assert (found.score.drift.state, found.alerts, found.findings) == ("off", (), ())


def test_predictions_remember_the_champion_before(world):
    """A new model knows what earlier champions predicted of the days before its own, in the same bins."""
    second = night(world, BREAK - DAY, **BOOTS)
    assert second.outcome == "promoted"
    (key,) = [k for k in world.store.keys(f"profiles/small/{BREAK - DAY}/") if "fresh" not in k]
    kept, before = Profile.model_validate_json(world.store.get(key)), reference(world)
    assert kept.bins[PREDICTION] == before.bins[PREDICTION]
    assert kept.pooled(PREDICTION, FIRST, BREAK).sum() == 6 * ROWS
    assert kept.days[before.tried_from][PREDICTION] == before.days[before.tried_from][PREDICTION]


def test_a_short_window_says_that_it_cannot_tell(world):
    """Where the window cannot hold enough days for the budget, the night says so and nobody is told of anything."""
    short = World(world.folder / "short").land_all()
    short.night()
    short.land(date.fromordinal(FIRST.toordinal() + 8))
    found = short.night(FIRST + 8 * DAY)
    assert found.score.drift.state == "too_short"
    assert "past days are too few" in found.score.drift.words
    assert yaml.safe_load(short.spec)["window"]["days"] == 8
