"""A night without a decision by its deadline is noticed from outside, whatever the cause, and told of once."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from small_world import NIGHT, World

from ratchet.domain import layout
from ratchet.domain.night import Night
from ratchet.home import parse_spec
from ratchet.steps.overdue import newest_due, overdue

BEGINS = datetime.combine(NIGHT + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=3)  # of NIGHT's run
DEADLINE = timedelta(hours=6)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path).land_all()


def alerts(world):
    """Return the alerts that were raised."""
    return list(world.store.contents("alerts/"))


def look(world, now):
    return overdue(world.services, world.pipeline(), now)


def test_decided_night_is_not_overdue(world):
    """Whatever the decision was, until the next night's deadline all is well."""
    world.night()
    assert look(world, BEGINS + timedelta(days=1) + DEADLINE - timedelta(minutes=1)) is None
    assert not alerts(world)


def test_night_that_never_ran_is_told_of_once(world):
    """Nothing ran at all after the first night: one alert, however often somebody looks."""
    world.night()
    late = BEGINS + timedelta(days=1) + DEADLINE
    words = [look(world, late), look(world, late + timedelta(hours=1))]
    assert words[0] == words[1]
    assert f"the night of {NIGHT + timedelta(days=1)}, scheduled for" in words[0]
    assert f"the newest decision is that of the night of {NIGHT}" in words[0]
    assert len(alerts(world)) == 1
    look(world, late + timedelta(days=1))
    assert len(alerts(world)) == 2


def test_failed_night_has_not_decided(world):
    """A record that tells of a failure is no decision."""
    night = world.night()
    [key] = world.store.keys(layout.nights("small"))
    failed = {"ended": {"outcome": "failed", "step": "train", "reason": "Stopped", "detail": "killed"}}
    world.store.put(key, Night.model_validate({**night.model_dump(mode="json"), **failed}).model_dump_json().encode())
    assert "no night has come to one yet" in look(world, BEGINS + DEADLINE)


def test_dry_run_decides_nothing(world):
    """A dry run is not the night."""
    world.night()
    world.land(NIGHT + timedelta(days=1))
    world.night(NIGHT + timedelta(days=1), dry_run=True)
    assert look(world, BEGINS + timedelta(days=1) + DEADLINE)


def test_pipeline_without_a_night_is_not_watched(world):
    """Before its first night nobody knows whether it was switched on."""
    assert look(world, BEGINS + timedelta(days=30)) is None


@pytest.mark.parametrize(
    ("schedule", "more", "now", "due"),
    [
        ('"0 3 * * *"', "", "2024-03-10T08:59", ("2024-03-09T03:00", "2024-03-08")),
        ('"0 3 * * *"', "", "2024-03-10T09:00", ("2024-03-10T03:00", "2024-03-09")),
        (
            '"0 3 * * *"',
            "approval: {when: [always], timeout_hours: 12}",
            "2024-03-10T20:59",
            ("2024-03-09T03:00", "2024-03-08"),
        ),
        ('"0 3 * * *"', "deadline_hours: 1", "2024-03-10T04:00", ("2024-03-10T03:00", "2024-03-09")),
        ('"30 4 * * 1"', "", "2024-03-10T12:00", ("2024-03-04T04:30", "2024-03-03")),
        ("null", "", "2024-03-10T12:00", None),
    ],
)
def test_deadline_follows_the_schedule(world, schedule, more, now, due):
    """The newest night that must have come to a decision; the time that a person has to answer is not counted."""
    spec = parse_spec(f"{world.spec}\nschedule: {schedule}\n{more}\n", "small.yaml")
    found = newest_due(spec, datetime.fromisoformat(now).replace(tzinfo=UTC))
    wanted = due and (datetime.fromisoformat(due[0]).replace(tzinfo=UTC), date.fromisoformat(due[1]))
    assert found == wanted
