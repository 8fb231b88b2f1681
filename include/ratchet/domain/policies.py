"""What the past would have cost under other rules: policies that say which version serves a day, and what each turn was worth.

A version serves the days after its cutoff at the earliest, and changes hands only at a night. Losses are a day's means.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, timedelta
from math import inf
from typing import TYPE_CHECKING, Literal

from ratchet.domain.gates import Loss
from ratchet.domain.night import NightOutcome
from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PolicyName = Literal["this policy", "never retraining", "always the newest", "hindsight by night", "hindsight by day"]
THIS: PolicyName = "this policy"
NEVER: PolicyName = "never retraining"
NEWEST: PolicyName = "always the newest"
BY_NIGHT: PolicyName = "hindsight by night"
BY_DAY: PolicyName = "hindsight by day"

Schedule = dict[date, int]  # the version that serves each day


class PlayedNight(Record):
    """How a replayed night came out, and who served after it."""

    cutoff: date
    outcome: NightOutcome
    reasons: tuple[str, ...]
    challenger: int | None  # the version that it trained
    champion: int | None  # who serves the days after it
    before: int | None  # who served until then
    turned: str = ""  # the action by which the champion changed, where it did


class DayLosses(Record):
    """The mean losses of every version that was there to serve a day."""

    day: date
    rows: int
    losses: dict[int, float]


class Turn(Record):
    """What a night's decision was worth, over the days until the champion next changed."""

    cutoff: date
    outcome: NightOutcome
    action: str  # of a change of champion; empty where the challenger was held back
    version: int  # the challenger that was held back, or who came to serve
    rival: int  # who served instead, or had served before
    reasons: tuple[str, ...]
    days: int
    rows: int
    gain: float  # mean loss per row that the decision saved; below zero it cost

    @property
    def total(self) -> float:
        """The loss that the decision saved over all rows."""
        return self.gain * self.rows


class Range(Record):
    """Which nights are replayed."""

    first: date
    last: date
    every: int  # days from one night to the next

    @property
    def cutoffs(self) -> tuple[date, ...]:
        """The nights."""
        days = range(0, (self.last - self.first).days + 1, self.every)
        return tuple(self.first + timedelta(days=i) for i in days)


class Figures(Record):
    """A policy's live performance over some days."""

    loss: float  # mean over rows
    loss_by_day: float  # mean of the days' means
    metric: float | None  # over all rows


class Period(Record):
    """All policies over the same days."""

    name: str  # a month, or "all"
    days: int
    rows: int
    policies: dict[PolicyName, Figures]

    @property
    def saved(self) -> float:
        """Mean loss per row that retraining by this policy saved against never retraining."""
        return self.policies[NEVER].loss - self.policies[THIS].loss


class PolicyDay(Record):
    """All policies on one day."""

    day: date
    rows: int
    losses: dict[PolicyName, float]


class Replayed(Record):
    """What the replay found."""

    pipeline: str
    range: Range
    gates: tuple[str, ...]
    loss: Loss
    metric: str
    nights: tuple[PlayedNight, ...]
    turns: tuple[Turn, ...]
    total: Period | None  # None where no night made a champion
    months: tuple[Period, ...]
    days: tuple[PolicyDay, ...]
    left_out: int  # days with data on which some policy's version could not score
    problems: tuple[str, ...]  # why

    @property
    def false_refusals(self) -> tuple[Turn, ...]:
        """Challengers that were held back and would have been better, the dearest first."""
        return tuple(sorted((t for t in self.turns if not t.action and t.gain < 0), key=lambda t: t.total))


def schedules(nights: Sequence[PlayedNight], days: Sequence[DayLosses]) -> dict[PolicyName, Schedule]:
    """Say which version each policy serves with, on every day from the first champion's on."""
    nights = sorted(nights, key=lambda night: night.cutoff)
    first = next((night for night in nights if night.champion is not None), None)
    if first is None or first.champion is None:
        return {}
    made = {n.challenger: n.cutoff for n in nights if n.challenger is not None}
    served = [day for day in days if day.day > first.cutoff and day.losses]
    found: dict[PolicyName, Schedule] = {name: {} for name in (THIS, NEVER, NEWEST, BY_NIGHT, BY_DAY)}
    cutoffs = [night.cutoff for night in nights]
    for at, group in _by_night(served, cutoffs):
        there = [v for v, cutoff in made.items() if cutoff <= cutoffs[at]]
        newest, best = max(there, key=lambda v: (made[v], v)), _best(there, group)
        for day in group:
            found[THIS][day.day] = nights[at].champion or first.champion
            found[NEVER][day.day] = first.champion
            found[NEWEST][day.day] = newest
            found[BY_NIGHT][day.day] = best
            found[BY_DAY][day.day] = _best(there, [day])
    return found


def comparable(days: Iterable[DayLosses], policies: Mapping[PolicyName, Schedule]) -> list[DayLosses]:
    """Return the days on which every policy's version has a loss: policies are compared on the same days only."""
    return [
        day
        for day in days
        if policies and all(day.day in served and served[day.day] in day.losses for served in policies.values())
    ]


def turns(nights: Sequence[PlayedNight], days: Sequence[DayLosses]) -> tuple[Turn, ...]:
    """Weigh every decision: each challenger that was held back against the champion, each new champion against the one before.

    It is weighed over the days from the night on, until the champion next changed.
    """
    nights = sorted(nights, key=lambda night: night.cutoff)
    found = []
    for i, night in enumerate(nights):
        until = next((later.cutoff for later in nights[i + 1 :] if later.turned), None)
        span = [day for day in days if night.cutoff < day.day and (until is None or day.day <= until)]
        if night.turned:
            version, rival = night.champion, night.before
        else:
            version, rival = night.challenger, night.champion
        if version is None or rival is None or version == rival:
            continue
        both = [day for day in span if version in day.losses and rival in day.losses]
        rows = sum(day.rows for day in both)
        # What served comes first: its loss is what the decision led to.
        served, other = (version, rival) if night.turned else (rival, version)
        gain = sum(day.rows * (day.losses[other] - day.losses[served]) for day in both) / rows if rows else 0.0
        found.append(
            Turn(
                cutoff=night.cutoff,
                outcome=night.outcome,
                action=night.turned,
                version=version,
                rival=rival,
                reasons=night.reasons,
                days=len(both),
                rows=rows,
                gain=gain,
            )
        )
    return tuple(found)


def mean_loss(days: Sequence[DayLosses], served: Schedule) -> tuple[float, float]:
    """Return a policy's mean loss over all rows, and the mean of its daily means."""
    rows = sum(day.rows for day in days)
    losses = [day.losses[served[day.day]] for day in days]
    if not rows:
        return float("nan"), float("nan")
    return sum(day.rows * loss for day, loss in zip(days, losses, strict=True)) / rows, sum(losses) / len(losses)


def by_month(days: Sequence[DayLosses]) -> dict[str, list[DayLosses]]:
    """Cut days by month (YYYY-MM), in order."""
    months: dict[str, list[DayLosses]] = {}
    for day in sorted(days, key=lambda day: day.day):
        months.setdefault(f"{day.day:%Y-%m}", []).append(day)
    return months


def _by_night(days: Sequence[DayLosses], cutoffs: Sequence[date]) -> list[tuple[int, list[DayLosses]]]:
    """Group days by the newest night before each."""
    groups: dict[int, list[DayLosses]] = {}
    for day in days:
        groups.setdefault(bisect_left(cutoffs, day.day) - 1, []).append(day)
    return sorted(groups.items())


def _best(versions: Sequence[int], days: Sequence[DayLosses]) -> int:
    return min(versions, key=lambda version: _mean(days, version))


def _mean(days: Sequence[DayLosses], version: int) -> float:
    if not all(version in day.losses for day in days):
        return inf  # a version that could not score every day is not the best
    return mean_loss(days, dict.fromkeys((day.day for day in days), version))[0]
