"""The watch over a champion that serves: with whom it is compared, and what sends it back."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ratchet.domain.ledger import TURNS, Champion, LedgerEntry, rollback_target
from ratchet.domain.statistics import Evidence, detector, e_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from ratchet.domain.gates import Loss
    from ratchet.domain.night import DayScore


class Rules(Protocol):
    """What the spec says of a rollback without a person (``spec.Rollback``)."""

    @property
    def evidence(self) -> float:
        """The E that sends a champion back."""

    @property
    def wrong_alarms_per_quarter(self) -> float:
        """False alarms that are bearable of a streak."""

    @property
    def min_days(self) -> int:
        """Fewer days never decide."""

    @property
    def calibration(self) -> tuple[float, float] | None:
        """Bounds of mean prediction over mean label."""

    @property
    def base_rate(self) -> tuple[float, float] | None:
        """Bounds of the mean prediction."""


_RENEWED = 28  # days that a streak goes on without an alarm before it is watched against a younger champion


class Guard(NamedTuple):
    """Who would serve again, and whom it is compared with."""

    standby: Champion
    turns: tuple[LedgerEntry, ...]  # under watch, oldest first; of each day the last that was judged before it served
    streak: bool  # the turns are refreshes that were not proved one by one


def guard(entries: Sequence[LedgerEntry]) -> Guard | None:
    """Return what is watched: a streak of refreshes against the champion that it began with, else the champion against its
    predecessor.

    A long streak is watched against its champion of four to eight weeks ago: to go back to one of another season costs more
    than most faults of a refresh do (measured in ``benchmarks/decisions``).
    """  # noqa: D205  one sentence
    turns = [entry for entry in entries if entry.action in TURNS and entry.champion]
    refreshes = next((i for i, entry in enumerate(reversed(turns)) if entry.action != "refresh"), len(turns))
    if 0 < refreshes < len(turns):
        marks = [len(turns) - refreshes - 1]
        for i in range(marks[0] + 1, len(turns)):
            if (turns[i].judged_through - turns[marks[-1]].judged_through).days >= _RENEWED:
                marks.append(i)
        # Not the newest mark: who has served for less than four weeks may be at fault himself.
        since = marks[-2] if len(marks) > 1 else marks[0]
        standby = turns[since].champion
        assert standby
        return Guard(standby, tuple(turns[since + 1 :]), streak=True)
    standby, _ = rollback_target(entries)
    return Guard(standby, tuple(turns[-1:]), streak=False) if standby else None


def as_scored(ours: DayScore, theirs: DayScore) -> tuple[DayScore, DayScore] | None:
    """Return the scores of a day where both are of equally many rows."""
    return (ours, theirs) if ours.rows == theirs.rows else None


def differences(
    watched: Guard,
    scores: Mapping[date, Mapping[int, DayScore]],
    loss: Loss,
    scale: float,
    pair: Callable[[DayScore, DayScore], tuple[DayScore, DayScore] | None] = as_scored,
) -> tuple[Evidence, ...]:
    """Return how much worse than the standby the champion of each day was, on the days since the watch began.

    ``pair`` gives the scores of both over the same rows; None where there are none.
    """
    found = []
    for day, by in sorted(scores.items()):
        served = next((e.champion for e in reversed(watched.turns) if e.judged_through < day), None)
        met, against = by.get(served.version) if served else None, by.get(watched.standby.version)
        both = pair(met, against) if met and against else None
        if both and all(loss in side.losses for side in both):
            ours, theirs = both
            found.append(
                Evidence(
                    day=str(day),
                    rows=ours.rows,
                    champion=ours.version,
                    challenger=theirs.version,
                    difference=ours.losses[loss] - theirs.losses[loss],
                    scale=scale,
                )
            )
    return tuple(found)


def proved_worse(rules: Rules, watched: Guard, evidence: Sequence[Evidence], loss: Loss) -> str | None:
    """Say, with the numbers, that the champion is worse than the standby on fresh labels, or None."""
    if len({e.day for e in evidence}) < rules.min_days:
        return None
    since = f"over {len(evidence)} days up to {max(e.day for e in evidence)}"
    if watched.streak:
        state = detector(evidence, margin=0.0, alarms_per_quarter=rules.wrong_alarms_per_quarter)
        if state.problem or state.crossed is None:
            return None
        return (
            f"refreshed models are worse by {loss} than version {watched.standby.version}, which served before them: "
            f"R reached {state.threshold:.0f} on {state.crossed} and is {state.value:.3g} {since}"
        )
    worse = e_process(evidence, margin=0.0)
    if worse.problem or worse.better < rules.evidence:
        return None
    return (
        f"version {evidence[-1].champion} is worse by {loss} than its predecessor, version {watched.standby.version}: "
        f"E = {worse.better:.3g} of {rules.evidence:g} {since}"
    )


def out_of_bounds(rules: Rules, day: DayScore) -> str | None:
    """Say, with the numbers, which hard bound a day's predictions have left, or None."""
    predicted, observed, where = day.predicted, day.observed, f"on {day.day} ({day.rows} rows)"
    if not all(isfinite(loss) for loss in day.losses.values()) or (predicted is not None and not isfinite(predicted)):
        return f"version {day.version} gave predictions that are no finite numbers {where}"
    if predicted is None or observed is None:
        return None
    if rules.base_rate and not rules.base_rate[0] <= predicted <= rules.base_rate[1]:
        low, high = rules.base_rate
        return f"the mean prediction of version {day.version} {where} is {predicted:.4g}, outside [{low:g}, {high:g}] (rollback.base_rate)"
    if rules.calibration and observed and not rules.calibration[0] <= predicted / observed <= rules.calibration[1]:
        low, high = rules.calibration
        return (
            f"mean prediction over mean label of version {day.version} {where} is {predicted / observed:.4g}, "
            f"outside [{low:g}, {high:g}] (rollback.calibration)"
        )
    return None


def newest(scores: Sequence[DayScore], version: int, min_rows: int) -> DayScore | None:
    """Return a version's newest day that has rows enough to be judged by itself."""
    days = [day for day in scores if day.version == version and day.rows >= min_rows]
    return max(days, key=lambda day: day.day, default=None)
