"""What is drift, and what is only weather."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratchet.domain.data_rules import Drift
from ratchet.domain.drift_days import judge
from ratchet.domain.profiles import LABEL, PREDICTION, Bins, Profile, feature

START = date(2024, 1, 1)
WINDOW, HOLDOUT, STOP = 90, 7, 7
BINS = Bins(kind="number", edges=(-1.0, 0.0, 1.0))
SUBJECTS = (LABEL, *(feature(name) for name in "abcdef"))


def day(number):
    """Return a day by its number."""
    return START + timedelta(days=number)


def counted(rng, weather, moved=0.0, rows=300):
    """Return a day's counts of one subject: rows share the day's weather."""
    values = weather + moved + rng.normal(size=rows)
    return (*np.bincount(np.searchsorted(BINS.edges, values, side="right"), minlength=4).tolist(), 0)


def world(seed, days, moved=None, rows=300, wild=0.3):
    """Return counts by day; ``moved`` says by how much a subject has moved on a day, ``wild`` how much days differ."""
    rng = np.random.default_rng(seed)
    made, weather = {}, rng.normal(size=len(SUBJECTS))
    for number in range(days):
        weather = 0.5 * weather + rng.normal(size=len(SUBJECTS))
        made[day(number)] = {
            subject: counted(rng, wild * weather[i], moved(subject, number) if moved else 0.0, rows)
            for i, subject in enumerate(SUBJECTS)
        }
    return made


def profile(days, last=WINDOW, window=WINDOW):
    """Return the profile of a model that was made on the evening before day ``last``."""
    first, newest = day(last - window), day(last - 1)
    seen = newest - timedelta(days=HOLDOUT)
    return Profile(
        first=first,
        seen_through=seen,
        tried_from=seen - timedelta(days=STOP - 1),
        last=newest,
        bins=dict.fromkeys(SUBJECTS, BINS),
        days={d: c for d, c in days.items() if first <= d <= newest},
    )


def told(days, night, champion=None, rule=None):
    """Judge a night by the champion of the night before, or by an older one."""
    made = profile(days, champion or night)
    fresh = {d: c for d, c in days.items() if made.last < d <= day(night)}
    return judge(made, fresh, rule or Drift(), 1)


def jump(size, start=WINDOW + 10):
    """Return a shift of one subject from a day on."""
    return lambda name, number: size if name == feature("c") and number >= start else 0.0


def test_quiet_days_stay_within_the_budget():
    """On hundreds of nights whose days differ, and do not change, somebody is told about once a month, and not more."""
    nights, alarms = 0, 0
    for seed in range(6):
        days, since = world(seed, WINDOW + 60, rows=100), None
        for night in range(WINDOW, WINDOW + 60):
            found = told(days, night)
            nights += 1
            if found.state == "drift" and (since is None or night - since > 7):
                alarms, since = alarms + 1, night
    assert 0.2 < alarms / nights * 30.4375 < 1.25


@pytest.mark.parametrize("champion", [None, WINDOW])
def test_a_shift_is_found_on_the_second_night(champion):
    """The first night might be weather. On the second the subject is named, whether the champion is new or not."""
    start = WINDOW + 10
    for seed in range(5):
        days = world(seed, start + 3, jump(2.0))
        assert not any(s.subject == feature("c") and s.drifted for s in told(days, start, champion).subjects)
        found = told(days, start + 1, champion)
        assert (found.state, found.subjects[0].subject) == ("drift", feature("c"))
        assert {s.against for s in found.subjects if s.drifted} == {"training", "previous"}
        top = found.subjects[0]
        assert top.psi > 2 * top.usual > 0
        assert sum(top.before) == pytest.approx(1, abs=0.001)
        assert top.after[3] > top.before[3] + 0.3
        assert found.rank < 2 / found.history
        assert "feature c" in found.words
        assert all(word in found.findings[0].words for word in ("feature c", "To do", "1 or more"))


def test_a_feature_that_goes_missing_is_found():
    """A bin that was never used is drift, though no value has moved."""
    days = world(3, WINDOW + 3)
    for number in (WINDOW + 1, WINDOW + 2):
        days[day(number)][feature("a")] = (100, 100, 0, 0, 100)
    found = told(days, WINDOW + 2)
    assert (found.state, found.subjects[0].subject) == ("drift", feature("a"))


def test_large_samples_do_not_cry_wolf():
    """A shift of a fiftieth of a standard deviation is beyond doubt in a million rows a day, and of no interest."""
    days = world(1, WINDOW + 12, jump(0.02), rows=40_000, wild=0.0)
    found = told(days, WINDOW + 11)
    assert found.state == "quiet"
    assert told(days, WINDOW + 11, rule=Drift(min_effect=0.0)).state == "drift"


def test_small_days_do_not_cry_wolf():
    """Days of a few rows lie far off by chance; that is taken off, so nothing much is left of it."""
    days = world(5, WINDOW + 1, wild=0.0)
    days |= {day(n): world(n, 1, rows=12)[START] for n in (WINDOW - 1, WINDOW)}
    assert told(days, WINDOW).state == "quiet"


def test_a_short_past_says_so():
    """With fewer days than the budget takes nothing is judged, however far the newest lies off, and the night says why."""
    days = world(2, 42, jump(5.0, 40))
    made, fresh = profile(days, 40, 40), {day(n): days[day(n)] for n in (40, 41)}
    found = judge(made, fresh, Drift(), 1)
    assert (found.state, found.needed) == ("too_short", 30)
    assert 15 < found.history < 30
    assert f"{found.history} past days are too few" in found.words
    assert found.subjects
    assert not any(s.drifted for s in found.subjects)
    assert judge(made, fresh, Drift(alarms_per_month=2.0), 1).state == "drift"


def test_nothing_newer_than_the_champion_says_so():
    """A night of the past, or one whose days have all been trained on, has nothing to judge."""
    days = world(2, WINDOW)
    assert judge(profile(days), days, Drift(), 4).state == "unknown"


def test_seasons_are_drift_for_a_champion_that_nobody_replaces():
    """What moves slowly is no news to the days before it. It is to a champion of long ago; that holds no newer model back."""
    days = world(4, 300, lambda name, number: 0.02 * number if name == feature("b") else 0.0)
    hold = Drift(action="hold")
    assert told(days, 280, rule=hold).state == "quiet"
    found = told(days, 280, champion=WINDOW, rule=hold)
    assert found.state == "drift"
    assert {(s.subject, s.against) for s in found.subjects if s.drifted} == {(feature("b"), "training")}
    assert [(f.action, f.kind) for f in found.findings] == [("warn", "drift")]
    assert "newer model" in found.findings[0].words
    assert found.since < day(250)


def test_a_break_holds():
    """What the days before did not look like makes tonight's model doubtful as well: where the spec says hold, it is held."""
    days = world(4, WINDOW + 12, jump(2.0))
    assert [f.action for f in told(days, WINDOW + 11, rule=Drift(action="hold")).findings][:1] == ["hold"]
    assert {f.action for f in told(days, WINDOW + 11, rule=Drift(action="retrain")).findings} == {"warn"}


def test_one_incident_does_not_blind():
    """After a week on which one feature was far off, another that moves is found as soon as it would have been."""
    broken = feature("a"), range(WINDOW - 30, WINDOW - 23)

    def moved(name, number):
        return 5.0 if name == broken[0] and number in broken[1] else jump(2.0)(name, number)

    found = told(world(6, WINDOW + 12, moved), WINDOW + 11)
    assert (found.state, found.subjects[0].subject) == ("drift", feature("c"))


def test_an_episode_has_a_beginning():
    """While it lasts the night says since when; the heat map shows what was seen before it was certain."""
    days = world(7, WINDOW + 20, jump(2.0))
    found = told(days, WINDOW + 14)
    assert (found.state, found.since) == ("drift", day(WINDOW + 11))
    hot = dict(zip(found.heat_days, found.heat[feature("c")], strict=True))
    assert hot[day(WINDOW + 10)] > 1 > hot[day(WINDOW + 9)]


def test_predictions_are_judged_once_they_have_a_past():
    """Predictions of two weeks are shown, and not judged; those of two months are."""
    for known, state in ((14, "quiet"), (80, "drift")):
        days = world(8, WINDOW + 2)
        rng = np.random.default_rng(8)
        for number in range(WINDOW + 2 - known, WINDOW + 2):
            days[day(number)][PREDICTION] = counted(rng, 0.0, 3.0 if number >= WINDOW else 0.0)
        made = profile(days).model_copy(update={"bins": {**dict.fromkeys(SUBJECTS, BINS), PREDICTION: BINS}})
        found = judge(made, {day(n): days[day(n)] for n in (WINDOW, WINDOW + 1)}, Drift(), 1)
        assert found.state == state
        assert PREDICTION in {s.subject for s in found.subjects}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 30), min_size=10, max_size=10) | st.none(), min_size=1, max_size=80),
    st.integers(1, 79),
    st.sampled_from([Drift(), Drift(nights=1, min_effect=0.0, alarms_per_month=30.0), Drift(nights=7)]),
    st.randoms(use_true_random=False),
)
def test_every_history_gives_a_result(rows, last, rule, shuffled):
    """Whatever was counted, with days missing or empty, something is said in finite numbers, in whatever order days are known."""
    subjects = {LABEL: BINS, feature("a"): BINS}
    days = {day(i): {LABEL: tuple(r[:5]), feature("a"): tuple(r[5:])} for i, r in enumerate(rows) if r is not None}
    seen = max(last - 5, 0)
    made = Profile(
        first=START,
        seen_through=day(seen),
        tried_from=day(max(seen - 3, 0)),
        last=day(last),
        bins=subjects,
        days={d: c for d, c in days.items() if d <= day(last)},
    )
    found = judge(made, days, rule, 1)
    text = found.model_dump_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert all(math.isfinite(s.psi) and 0 <= s.js <= 1.0001 and s.psi >= -1e-9 for s in found.subjects)
    assert (found.state == "drift") == any(s.drifted for s in found.subjects) == bool(found.findings)
    keys = list(days)
    shuffled.shuffle(keys)
    assert judge(made, {d: days[d] for d in keys}, rule, 1) == found
