"""Several processes at once on one pipeline, over real servers: one champion at a time, and never an older night over a newer."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from machines import DAY, NIGHT, Desk, Machine, Place, one_night

from ratchet.domain.ledger import TURNS
from ratchet.domain.night import STEPS, NightRequest
from ratchet.errors import ActionRefused
from ratchet.steps import turns
from ratchet.steps.night import begin, run_step
from ratchet.steps.rollback import roll_back

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.night import Night
    from ratchet.stack import Embedded


@pytest.fixture
def place(stack: Embedded, tmp_path: Path) -> Place:
    """A place with days for some nights."""
    return Place.fresh(stack, tmp_path, 12)


def night_of(desk: Desk, cutoff: date, actor: str, *, seed: int = 0) -> Night:
    """Run a night up to its promotion, wait, and go on when told."""
    pipeline = desk.place.pipeline(desk.place.name, training__seed=seed)
    night = begin(NightRequest(pipeline=desk.place.name, cutoff=cutoff, actor=actor), pipeline)
    for step in STEPS:
        if step == "promote":
            desk.wait("judged")
        night = run_step(step, night, pipeline, desk.services)
    return night


def whole_night(desk: Desk, cutoff: date, actor: str) -> Night:
    """Run a whole night when told."""
    desk.wait("here")
    return one_night(desk, desk.place.name, cutoff, actor=actor)


def back(desk: Desk, actor: str) -> LedgerEntry | str:
    """Roll back when told, and return the entry or why not."""
    pipeline = desk.place.pipeline(desk.place.name)
    desk.wait("here")
    try:
        return roll_back(desk.services, pipeline, to=None, actor=actor, reason="it predicts nonsense")
    except ActionRefused as exc:
        return str(exc)


def at_once(*machines: Machine) -> list[Any]:
    """Let machines that have come as far as they go alone go on together, and return what came of it."""
    for machine in machines:
        machine.heard()
    for machine in machines:
        machine.go()
    return [machine.result() for machine in machines]


def champions(place: Place, nights: int) -> tuple[LedgerEntry, ...]:
    """Run nights one after the other, each of which makes a champion."""
    for i in range(nights):
        assert Machine(place, one_night, name=place.name, cutoff=NIGHT + i * DAY).result().outcome == "promoted"
    return checked(place)


def checked(place: Place) -> tuple[LedgerEntry, ...]:
    """Return the ledger, once all that must always hold has been seen to hold."""
    services = place.services("checks")
    entries = turns.look(services, place.name)
    assert services.registry.anchors(place.name) == {entry.seq: entry.hash for entry in entries}
    assert [entry.judged_through for entry in entries] == sorted(entry.judged_through for entry in entries)
    assert entries[-1].champion
    assert services.registry.alias(place.name, "champion") == entries[-1].champion.version
    nightly = [entry.night for entry in entries if entry.night]
    assert len(nightly) == len(set(nightly)), "a run was promoted twice"
    versions = [version.run_key for version in services.registry.versions(place.name)]
    assert len(versions) == len(set(versions)), "a run has two versions"
    return entries


def test_of_nights_judged_against_one_champion_one_is_promoted(place: Place) -> None:
    """Manual, scheduled and backfilled nights that are promoted at once: each round has one winner, the others are superseded."""
    for number in range(1, 3):
        tonight, yesterday = NIGHT + 2 * number * DAY, NIGHT + (2 * number - 1) * DAY
        nights = at_once(
            Machine(place, night_of, cache="a", cutoff=tonight, actor="schedule"),
            Machine(place, night_of, cache="b", cutoff=tonight, actor="schedule again"),
            Machine(place, night_of, cache="c", cutoff=tonight, actor="manual", seed=7),
            Machine(place, night_of, cache="d", cutoff=yesterday, actor="backfill"),
        )
        entries = checked(place)
        assert len(entries) == number
        assert nights[0].run_key == nights[1].run_key
        for night in nights:
            won = night.run_key == entries[-1].night
            assert night.outcome == ("promoted" if won else "refused"), night.reasons
            assert won or night.promote.detail.startswith("superseded: "), night.promote
        assert sum(night.promote.appended for night in nights if night.promote.promoted) == 1


def test_nights_that_run_together_leave_the_newest_champion_of_them(place: Place) -> None:
    """Whole nights with the same and other cutoffs at the same time, twice: whatever comes first, time goes forward only."""
    for first in (NIGHT, NIGHT + 4 * DAY):
        cutoffs = [first, first + DAY, first + 2 * DAY, first + 2 * DAY]
        nights = at_once(
            *(
                Machine(place, whole_night, cache=f"machine-{i}", cutoff=cutoff, actor=f"machine {i}")
                for i, cutoff in enumerate(cutoffs)
            )
        )
        entries = checked(place)
        by_run = {night.run_key: night.request.cutoff for night in nights}
        promoted = [by_run[entry.night] for entry in entries if entry.night in by_run]
        assert promoted
        assert promoted == sorted(promoted)
        assert {night.run_key for night in nights if night.outcome == "promoted"} == {
            entry.night for entry in entries if entry.night in by_run
        }
        for night in nights:
            assert night.outcome == "promoted" or night.promote.detail.startswith("superseded: "), night.reasons


def test_of_two_rollbacks_at_once_one_goes_back(place: Place) -> None:
    """Two people who saw the same champion send it back once: the champion before it serves, not the one before that."""
    before = champions(place, 3)
    said = at_once(*(Machine(place, back, cache=who, actor=who) for who in ("ada", "bob")))
    entries = checked(place)
    assert [entry.action for entry in entries[len(before) :]] == ["rollback"]
    assert entries[-1].champion == before[1].champion
    (refused,) = (word for word in said if isinstance(word, str))
    assert f"{entries[-1].actor} was faster with entry 4 (rollback)" in refused


def test_a_rollback_and_a_promotion_at_once_have_one_winner(place: Place) -> None:
    """Whichever comes second has not seen the champion that it would replace, and is told."""
    before = champions(place, 2)
    for number in range(2):
        cutoff = NIGHT + (2 + number) * DAY
        night, said = at_once(
            Machine(place, night_of, cache="a", cutoff=cutoff, actor="schedule"),
            Machine(place, back, cache="b", actor=f"ada {number}"),
        )
        entries = checked(place)
        (turn,) = entries[len(before) :]
        if turn.action == "rollback":
            assert said == turn
            assert night.promote.detail.startswith("superseded: ")
        else:
            assert turn.night == night.run_key
            assert "schedule was faster" in said
        before = entries


@pytest.mark.parametrize("holds", [None, "/ledger/"], ids=["judged", "at the ledger"])
def test_a_promoter_that_slept_is_refused_when_it_wakes(place: Place, holds: str | None) -> None:
    """A process is stopped once it has judged, or with its hand on the ledger; another promotes; the first wakes, and is superseded."""
    champions(place, 1)
    sleeper = Machine(place, night_of, cache="sleeper", holds=holds, cutoff=NIGHT + DAY, actor="sleeper")
    assert sleeper.heard() == "judged"
    if holds:
        sleeper.go()
        assert holds in sleeper.heard()
    sleeper.signal(signal.SIGSTOP)
    sleeper.go()
    assert Machine(place, one_night, cache="b", name=place.name, cutoff=NIGHT + 2 * DAY).result().outcome == "promoted"
    sleeper.signal(signal.SIGCONT)
    woken = sleeper.result()
    assert (woken.outcome, woken.promote.entry) == ("refused", None)
    assert woken.promote.detail.startswith("superseded: ")
    entries = checked(place)
    assert [entry.action in TURNS for entry in entries] == [True, True]
    assert entries[-1].night != woken.run_key
