"""Whom a challenger is compared with, as people are shown it: yesterday's champion and the baselines, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.intervals import gain_interval
from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.case import BaselineDay, CaseForPromotion, DayLoss

CHAMPION = "champion"
_ORDER = ("average", "recent", "linear")


class Rival(Record):
    """One of them, on the hold-out's rows that it was measured on beside the challenger; None where it could not be made."""

    name: str
    loss: str
    own: float | None  # mean over days of its daily loss
    challenger: float | None  # on the same rows
    gain: float | None  # own − challenger: positive where the challenger is better
    interval: tuple[float, float] | None  # 95 % of the gain, over days
    days: int
    must: bool  # whether the night asks that it is beaten, whatever the gates are

    @property
    def open(self) -> bool:
        """Whether the gain may be chance."""
        return self.interval is None or self.interval[0] <= 0 <= self.interval[1]


def rivals(case: CaseForPromotion) -> tuple[Rival, ...]:
    """Return yesterday's champion, on the rows that it has not seen either, and each baseline; those that could not be made too."""
    asked = case.must_beat
    told = {name: set(losses) for name, losses in case.baselines.items()}
    for name in asked.baselines if asked else ():
        told.setdefault(name, set()).add(asked.loss if asked else "")
    champions = {asked.loss} if asked else {loss for losses in told.values() for loss in losses}
    paired = {loss: case.paired.get(loss, ()) for loss in sorted(champions)}
    found = [_rival(CHAMPION, loss, days, must=False) for loss, days in paired.items() if days]
    for name in sorted(told, key=_place):
        for loss in sorted(told[name]):
            must = asked is not None and loss == asked.loss and name in asked.baselines
            found.append(_rival(name, loss, case.baselines.get(name, {}).get(loss, ()), must=must))
    return tuple(found)


def _place(name: str) -> tuple[int, str]:
    kind = name.partition(" ")[0]
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), name)


def _rival(name: str, loss: str, days: Sequence[DayLoss | BaselineDay], *, must: bool) -> Rival:
    if not days:
        return Rival(name=name, loss=loss, own=None, challenger=None, gain=None, interval=None, days=0, must=must)
    gains = [day.other - day.challenger for day in days]
    return Rival(
        name=name,
        loss=loss,
        own=sum(day.other for day in days) / len(days),
        challenger=sum(day.challenger for day in days) / len(days),
        gain=sum(gains) / len(days),
        interval=gain_interval(gains),
        days=len(days),
        must=must,
    )
