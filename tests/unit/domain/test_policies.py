"""Policies over a few days whose losses are written by hand."""

from __future__ import annotations

from datetime import date

import pytest

from ratchet.domain.policies import (
    BY_DAY,
    BY_NIGHT,
    NEVER,
    NEWEST,
    THIS,
    DayLosses,
    PlayedNight,
    by_month,
    comparable,
    mean_loss,
    schedules,
    turns,
)


def night(day: int, challenger: int | None, champion: int | None, before: int | None, turned: str = "") -> PlayedNight:
    """Return a night of a day of January."""
    outcome = "promoted" if turned else "undecided"
    return PlayedNight(
        cutoff=date(2024, 1, day),
        outcome=outcome,
        reasons=("because",),
        challenger=challenger,
        champion=champion,
        before=before,
        turned=turned,
    )


def day(number: int, losses: dict[int, float], rows: int = 10) -> DayLosses:
    """Return a day of January."""
    return DayLosses(day=date(2024, 1, number), rows=rows, losses=losses)


NIGHTS = (
    night(1, 1, None, None),  # refused: there is no champion yet
    night(2, 2, 2, None, "bootstrap"),
    night(4, 3, 2, 2),  # held back
    night(6, 4, 4, 2, "promote"),
)
DAYS = (
    day(2, {1: 9.0}),
    day(3, {1: 4.0, 2: 3.0}),
    day(4, {1: 1.0, 2: 3.0}),
    day(5, {1: 5.0, 2: 3.0, 3: 2.0}),
    day(6, {1: 5.0, 2: 3.0, 3: 1.0}, rows=30),
    day(7, {1: 5.0, 2: 4.0, 3: 2.0, 4: 1.0}),
)


def served(name: str) -> list[int]:
    """Return the versions that a policy serves with, from 3 January on."""
    return [version for _, version in sorted(schedules(NIGHTS, DAYS)[name].items())]


def test_each_policy_serves_from_the_first_champion_on():
    """A night's version serves the days after it; what a night refused is there for the newest and for hindsight."""
    assert sorted(schedules(NIGHTS, DAYS)[THIS]) == [date(2024, 1, d) for d in range(3, 8)]
    assert served(THIS) == [2, 2, 2, 2, 4]
    assert served(NEVER) == [2, 2, 2, 2, 2]
    assert served(NEWEST) == [2, 2, 3, 3, 4]
    assert served(BY_DAY) == [2, 1, 3, 3, 4]
    assert served(BY_NIGHT) == [1, 1, 3, 3, 4], "between two nights nobody changes: 4 + 1 is less than 3 + 3"


def test_without_a_champion_there_is_no_policy():
    """Nights that made nobody champion cannot be compared with anything."""
    assert schedules(NIGHTS[:1], DAYS) == {}
    assert comparable(DAYS, {}) == []


def test_only_days_that_every_policy_can_score_are_compared():
    """A version that could not score a day takes the day from all policies."""
    days = (*DAYS[:5], day(7, {2: 4.0, 3: 2.0}))
    assert [d.day.day for d in comparable(days, schedules(NIGHTS, days))] == [3, 4, 5, 6]


def test_a_version_that_missed_a_day_is_not_the_best_between_two_nights():
    """Hindsight does not choose who could not have served all the way."""
    days = (DAYS[1], day(4, {2: 3.0}))
    assert schedules(NIGHTS, days)[BY_NIGHT] == {date(2024, 1, 3): 2, date(2024, 1, 4): 2}


def test_decisions_are_weighed_until_the_champion_next_changes():
    """Holding back a better challenger costs, by rows; a good promotion saves; a bootstrap is weighed against nobody."""
    held, promoted = turns(NIGHTS, DAYS)
    assert (held.version, held.rival, held.action, held.days, held.rows) == (3, 2, "", 2, 40)
    assert held.gain == pytest.approx((10 * (2 - 3) + 30 * (1 - 3)) / 40)
    assert held.total == pytest.approx(-70)
    assert (promoted.version, promoted.rival, promoted.action, promoted.days) == (4, 2, "promote", 1)
    assert promoted.gain == pytest.approx(3.0)


def test_a_rollback_is_weighed_as_a_change():
    """Whoever comes back is compared with whom it replaces, whatever the night's own challenger was."""
    nights = (*NIGHTS, night(7, 5, 2, 4, "rollback"))
    days = (*DAYS, day(8, {2: 1.0, 4: 3.0, 5: 0.0}))
    back = turns(nights, days)[-1]
    assert (back.action, back.version, back.rival, back.gain) == ("rollback", 2, 4, pytest.approx(2.0))


def test_means_are_by_row_and_by_day():
    """A day of many rows weighs more by row, and no more by day."""
    days = [day(5, {1: 1.0}), day(6, {1: 2.0}, rows=30)]
    assert mean_loss(days, {d.day: 1 for d in days}) == (pytest.approx(1.75), pytest.approx(1.5))


def test_months_are_in_order_and_hold_every_day_once():
    """Days are cut by the month that they lie in."""
    days = [DayLosses(day=date(2024, month, 1), rows=1, losses={}) for month in (3, 1, 2)] + [DAYS[0]]
    assert {name: len(part) for name, part in by_month(days).items()} == {"2024-01": 2, "2024-02": 1, "2024-03": 1}
    assert list(by_month(days)) == ["2024-01", "2024-02", "2024-03"]
