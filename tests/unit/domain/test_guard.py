"""Whom the watch compares with whom, and what it takes for proof."""

from __future__ import annotations

from datetime import date, timedelta
from math import inf, nan

import pytest

from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry
from ratchet.domain.night import DayScore
from ratchet.domain.promotion_rules import Rollback
from ratchet.domain.watch import differences, guard, newest, out_of_bounds, proved_worse

START = date(2024, 1, 1)
DAY = timedelta(days=1)


def ledger(*turns: tuple[str, int]) -> tuple[LedgerEntry, ...]:
    """Return a ledger of turns, a week apart, each action with the version that it names."""
    entries, previous = [], GENESIS
    for seq, (action, version) in enumerate(turns, start=1):
        champion = Champion(
            version=version,
            run_key=f"k{version}",
            artifact_digest="d",
            cutoff=START,
            seen_through=START,
            mlflow_run_id="r",
        )
        entry = LedgerEntry(
            seq=seq,
            previous=previous,
            pipeline="p",
            action=action,
            champion=champion,
            judged_through=START + 7 * DAY * (seq - 1),
            actor="a",
            reason="r",
            at="2024-01-01T00:00:00+00:00",
        ).sealed()
        entries.append(entry)
        previous = entry.hash
    return tuple(entries)


def score(day: int, version: int, loss: float, **means: float) -> DayScore:
    """Return a version's loss on one day."""
    return DayScore(day=START + day * DAY, version=version, run_key="k", rows=500, losses={"brier": loss}, **means)


@pytest.mark.parametrize(
    ("turns", "standby", "watched"),
    [
        ((), None, None),
        ((("bootstrap", 1),), None, None),
        ((("bootstrap", 1), ("promote", 2)), 1, [2]),
        ((("bootstrap", 1), ("promote", 2), ("refresh", 3), ("refresh", 4)), 2, [3, 4]),
        ((("bootstrap", 1), ("promote", 2), ("refresh", 3), ("freeze", 3), ("refresh", 4)), 2, [3, 4]),
        ((("bootstrap", 1), ("promote", 2), ("refresh", 3), ("rollback", 2)), 1, [2]),
        ((("bootstrap", 1), ("promote", 2), ("refresh", 3), ("rollback", 2), ("refresh", 4)), 2, [4]),
        ((("bootstrap", 1), ("refresh", 2)), 1, [2]),
        ((("bootstrap", 1), *(("refresh", n) for n in range(2, 6))), 1, [2, 3, 4, 5]),
        ((("bootstrap", 1), *(("refresh", n) for n in range(2, 9))), 1, [2, 3, 4, 5, 6, 7, 8]),
        ((("bootstrap", 1), *(("refresh", n) for n in range(2, 10))), 5, [6, 7, 8, 9]),
        ((("bootstrap", 1), *(("refresh", n) for n in range(2, 13))), 5, [6, 7, 8, 9, 10, 11, 12]),
        ((("bootstrap", 1), *(("refresh", n) for n in range(2, 14))), 9, [10, 11, 12, 13]),
    ],
)
def test_a_streak_is_watched_against_its_base_and_a_champion_against_its_predecessor(turns, standby, watched):
    """The streak's base, or the last that served before, stands by; of a long streak that of four to eight weeks ago."""
    found = guard(ledger(*turns))
    if standby is None:
        assert found is None
    else:
        assert (found.standby.version, [e.champion.version for e in found.turns]) == (standby, watched)
        assert found.streak == (turns[-1][0] == "refresh")


def test_of_each_day_the_model_that_served_it_counts():
    """A day belongs to the last turn that was judged before it; days before the watch, or without both, do not count."""
    watched = guard(ledger(("bootstrap", 1), ("refresh", 2), ("refresh", 3)))  # judged on days 0, 7 and 14
    scores = {
        START + d * DAY: {v: score(d, v, loss) for v, loss in ((1, 0.5), (2, 0.6), (3, 0.9))} for d in (6, 8, 14, 15)
    }
    scores[START + 16 * DAY] = {3: score(16, 3, 0.9)}
    found = differences(watched, scores, "brier", 0.01)
    assert [(e.day[-2:], e.champion, e.challenger, round(e.difference, 6)) for e in found] == [
        ("09", 2, 1, 0.1),
        ("15", 2, 1, 0.1),
        ("16", 3, 1, 0.4),
    ]


def test_days_of_other_rows_are_compared_over_the_common_ones():
    """Losses over different rows are no pair; what they are over the same rows, where that is known, counts."""
    watched = guard(ledger(("bootstrap", 1), ("promote", 2)))
    fewer = score(8, 2, 0.1).model_copy(update={"rows": 300})
    scores = {START + 8 * DAY: {1: score(8, 1, 0.5), 2: fewer}}
    assert differences(watched, scores, "brier", 0.01) == ()
    common = fewer, score(8, 1, 0.08).model_copy(update={"rows": 300})
    (found,) = differences(watched, scores, "brier", 0.01, lambda *_: common)
    assert (found.rows, round(found.difference, 6)) == (300, 0.02)


def test_proof_needs_days_and_evidence():
    """A champion that loses every day is proved worse in the end; one that wins never is, nor one told in nonsense."""
    watched = guard(ledger(("bootstrap", 1), ("promote", 2)))

    def said(loss: float, days: int, rules: Rollback = Rollback()) -> str | None:  # noqa: B008  frozen
        scores = {START + d * DAY: {1: score(d, 1, 0.5), 2: score(d, 2, loss)} for d in range(8, 8 + days)}
        return proved_worse(rules, watched, differences(watched, scores, "brier", 0.01), "brier")

    assert said(0.6, 4) is None
    assert said(0.6, 30).startswith("version 2 is worse by brier than its predecessor, version 1: E = ")
    assert said(0.4, 30) is None
    assert said(nan, 30) is None
    assert said(inf, 30) is None
    assert said(0.6, 5, Rollback(evidence=1e9)) is None


BOUNDS = Rollback(base_rate=(0.1, 0.4), calibration=(0.5, 2.0))


@pytest.mark.parametrize(
    ("predicted", "observed", "says"),
    [
        (0.2, 0.2, None),
        (0.5, 0.5, "mean prediction of version 7 on 2024-01-02 (500 rows) is 0.5, outside [0.1, 0.4]"),
        (0.3, 0.1, "is 3, outside [0.5, 2] (rollback.calibration)"),
        (0.2, 0.0, None),
        (nan, 0.2, "no finite numbers"),
        (None, None, None),
    ],
)
def test_hard_bounds(predicted, observed, says):
    """Each bound names its numbers; what cannot be told trips nothing."""
    found = out_of_bounds(BOUNDS, score(1, 7, 0.1, predicted=predicted, observed=observed))
    assert found is None if says is None else says in found


def test_losses_that_are_no_numbers_trip():
    """A champion that gives no numbers has not scored."""
    assert "no finite numbers" in out_of_bounds(Rollback(), score(1, 7, nan))


def test_the_newest_day_with_rows_enough_is_judged():
    """Fewer rows say too little by themselves."""
    days = [score(1, 7, 0.1), score(3, 8, 0.1), score(2, 7, 0.1).model_copy(update={"rows": 9})]
    assert newest(days, 7, 100).day == START + DAY
    assert newest(days, 7, 1000) is None
