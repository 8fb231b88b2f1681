"""When a search is due, whose parameters a night takes, which trial has won and which is given up."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.drifted import DriftResult
from ratchet.domain.training_rules import Choices, Range, Tuning
from ratchet.domain.tuning import (
    Found,
    Incumbent,
    SearchTrial,
    behind,
    between,
    due,
    grows,
    inside,
    score_of,
    winner,
)

SEARCHED = date(2024, 3, 1)
DAY = timedelta(days=1)
HOLDOUT = 7  # days


def found(params=None, **changed):
    facts = {
        "study": "s" * 64,
        "about": "a",
        "cutoff": SEARCHED,
        "newest": SEARCHED,
        "seen_through": SEARCHED - HOLDOUT * DAY,
        "days": (),
        "params": {"eta": 0.1} if params is None else params,
        "why": "",
        "won": "",
    }
    return Found(**facts | changed)


def why(passed, last=None, about="a", drift=None, **spec):
    """Return why a search is due so many days after the last."""
    cutoff = SEARCHED + passed * DAY
    return due(Tuning(**spec), cutoff, cutoff - (HOLDOUT - 1) * DAY, last or found(), about, drift)


def drifted(since):
    return DriftResult(state="drift", words="", since=since)


def test_first_night_searches():
    """A pipeline whose parameters were never searched does not wait for a day to be due."""
    assert due(Tuning(every_days=None), SEARCHED, SEARCHED, None, "a", None) == "there has been no search yet"


@given(passed=st.integers(1, 100), every=st.integers(1, 60) | st.none())
def test_search_comes_round(passed, every):
    """It is due so many days after the last one, counted from the last night that searched; with null it never is by age."""
    assert bool(why(passed, every_days=every)) == (every is not None and passed >= every)


@pytest.mark.parametrize(
    ("since", "on_drift", "searches"), [(1, True, True), (1, False, False), (0, True, False), (-3, True, False)]
)
def test_drift_makes_a_search_due_once(since, on_drift, searches):
    """An episode that began after the newest day of the last search asks for another; one that it has seen does not."""
    said = why(2, drift=drifted(SEARCHED + since * DAY), on_drift=on_drift)
    assert said == (f"the data has moved since {SEARCHED + since * DAY}" if searches else "")


def test_quiet_data_makes_nothing_due():
    """Drift that is over, or that nobody can tell of, asks for no search."""
    assert not why(2, drift=DriftResult(state="quiet", words="", since=SEARCHED + DAY))
    assert not why(2, drift=DriftResult(state="unknown", words=""))


def test_changed_spec_makes_a_search_due():
    """What was found for another label, fit or space is not what the spec asks for now."""
    assert why(1, about="b") == "what the search of 2024-03-01 was for has changed in the spec"


def test_search_that_met_the_holdout_does_not_count():
    """Where the hold-out has grown back over days that a search has met, what it found may not be judged there."""
    assert "has met days that are held out now" in why(1, last=found(seen_through=SEARCHED))


def chosen(passed, theirs, last=None, *, served=False, given=None):
    incumbent = None if theirs is None else Incumbent(version=3, params=theirs)
    return between(
        Tuning(patience_days=5), SEARCHED + passed * DAY, last, incumbent, {"eta": 0.3} if given is None else given,
        served=served,
    )  # fmt: skip


@given(passed=st.integers(1, 40))
def test_what_was_found_has_its_days(passed):
    """What is not champion yet is tried for so many days, then the champion's parameters are fitted again."""
    choice = chosen(passed, {"eta": 0.2}, found())
    assert (choice.source, choice.params["eta"]) == (("search", 0.1) if passed < 5 else ("champion", 0.2))


def test_champion_keeps_its_parameters():
    """Between two searches those of the champion are used, whoever found them."""
    assert chosen(40, {"eta": 0.2}).model_dump() == {
        "source": "champion",
        "params": {"eta": 0.2},
        "why": "those of champion v3",
    }
    assert "which the search of 2024-03-01 has found" in chosen(40, {"eta": 0.1}, found()).why


def test_what_has_served_and_lost_is_not_tried_again():
    """Found parameters whose model was champion and is not any more have had their turn."""
    choice = chosen(1, {"eta": 0.2}, found(), served=True)
    assert (choice.source, "has served, and does not any more" in choice.why) == ("champion", True)


def test_without_a_champion_what_was_found_is_all_there_is():
    """However old it is."""
    assert chosen(400, None, found()).source == "search"


def test_without_anything_the_spec_speaks():
    """The spec's own parameters are what is left, also where the champion's recipe cannot be read."""
    assert chosen(1, None).model_dump(exclude={"why"}) == {"source": "spec", "params": {"eta": 0.3}}
    lost = between(Tuning(), SEARCHED, None, Incumbent(version=3, problem="its recipe was not kept"), {})
    assert (lost.source, lost.why) == ("spec", "the spec's: champion v3: its recipe was not kept")


def trial(number, days=(), origin="drawn", state="finished", **facts):
    by_day = {f"2024-03-{i + 1:02d}": loss for i, loss in enumerate(days)}
    score = score_of(by_day) if state == "finished" else None
    return SearchTrial(
        number=number, origin=origin, params={"n": number}, state=state, score=score, days=by_day, **facts
    )


def test_least_loss_wins():
    """Of trials that ended well the best; of equals the first. What was pruned or failed has no score."""
    trials = [
        trial(0, (0.5, 0.5), "spec"),
        trial(1, (0.4, 0.5)),
        trial(2, (0.4, 0.5)),
        trial(3, state="pruned"),
        trial(4, state="failed", problem="refused"),
    ]
    best, said = winner(trials)
    assert (best.number, said) == (1, "trial 1: 0.45")
    assert winner(trials[3:]) is None


def test_champion_gives_way_to_a_gain_only():
    """Its parameters stay unless the gain is greater than its own standard error over the days."""
    champion = trial(0, (0.5, 0.5, 0.5, 0.5), "champion")
    noisy, clear = trial(1, (0.9, 0.1, 0.6, 0.3)), trial(2, (0.49, 0.48, 0.49, 0.48))
    best, said = winner([champion, noisy])
    assert (best.number, "the champion's parameters stay" in said) == (0, True)
    best, said = winner([champion, clear])
    assert (best.number, said) == (2, "trial 2: 0.485, the champion's parameters 0.5")
    assert winner([champion, trial(1, (0.6,) * 4)])[1] == "no trial was better than the champion's parameters"


def test_without_enough_days_any_gain_counts():
    """Of two days no spread is known."""
    assert winner([trial(0, (0.5, 0.5), "champion"), trial(1, (0.9, 0.05))])[0].number == 1


def curve(rounds, best):
    """Return a curve that falls to ``best``."""
    return tuple(1 - (1 - best) * (i + 1) / rounds for i in range(rounds))


EARLIER = [trial(i, (0.5,), curve=curve(100, 0.4 + i / 100), eta=0.1) for i in range(6)]


def test_trial_behind_the_median_is_given_up():
    """At every tenth round from the twentieth on it is compared with where the others had come; before, never."""
    slow = [1.0] * 100
    assert [n for n in range(1, 101) if behind(slow[:n], 0.1, EARLIER)] == list(range(20, 101, 10))
    assert not any(behind(curve(100, 0.2)[:n], 0.1, EARLIER) for n in range(1, 101))


def test_few_trials_give_nobody_up():
    """A median of fewer than five says nothing; what was pruned earlier, or failed, is not counted where it did not get."""
    gone = [trial(9, state="pruned", curve=(1.0,) * 10, eta=0.1), trial(10, state="failed")]
    assert not behind([1.0] * 50, 0.1, [*EARLIER[:4], *gone])
    assert behind([1.0] * 50, 0.1, [*EARLIER[:5], *gone])


def test_slow_learner_is_not_behind_because_it_is_slow():
    """Trials are compared at equal rounds times learning rate."""
    ten_times_slower = [1 - 0.65 * (i + 1) / 1000 for i in range(200)]
    assert not behind(ten_times_slower, 0.01, EARLIER)
    assert behind(ten_times_slower, 0.1, EARLIER)


@given(st.integers(1, 60))
def test_more_is_better_where_it_is(rounds):
    """Of a ranking, or of an AUC, the median is missed from below."""
    up = [trial(i, (0.5,), curve=tuple(-x for x in EARLIER[i].curve), eta=0.1) for i in range(6)]
    mine = [1.0] * rounds
    assert behind(mine, 0.1, EARLIER) == behind([-x for x in mine], 0.1, up, grows=True)


@pytest.mark.parametrize(
    ("task", "metric", "more"),
    [
        ("binary", None, False),
        ("ranking", None, True),
        ("binary", ["logloss", "auc"], True),
        ("ranking", "ndcg@5", True),
        ("regression", "mae", False),
    ],
)
def test_what_early_stopping_watches_says_which_way(task, metric, more):
    """XGBoost goes by the last metric."""
    assert grows(task, {"eval_metric": metric} if metric else {}) is more


SPACE = {
    "eta": Range(low=0.01, high=0.3),
    "max_depth": Range(low=2, high=8),
    "grow_policy": Choices(choices=("a", "b")),
}


def test_point_of_the_space():
    """Parameters that a spec leaves out are as XGBoost has them; outside of the space there is no point."""
    assert inside(SPACE, {"grow_policy": "b"}) == {"eta": 0.3, "max_depth": 6, "grow_policy": "b"}
    assert inside(SPACE, {"grow_policy": "c"}) is None
    assert inside(SPACE, {"grow_policy": "a", "eta": 0.5}) is None
    assert inside(SPACE, {"grow_policy": "a", "eta": "0.1"}) is None
    assert inside(SPACE, {"grow_policy": "a", "max_depth": True}) is None
    assert inside(SPACE, {"grow_policy": "a", "max_depth": 4.5}) is None
    assert inside(SPACE, {"grow_policy": "a", "max_depth": 4.0})


def test_score_that_is_no_number():
    """A loss that is not finite, or no day at all, is no score."""
    assert score_of({"2024-03-01": float("inf")}) is None
    assert score_of({}) is None
