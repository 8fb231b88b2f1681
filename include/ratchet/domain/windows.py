"""Which days a night may see, and what each day is used for."""

from __future__ import annotations

from datetime import date, timedelta

from ratchet.domain.records import Record

DAY = timedelta(days=1)


class Span(Record):
    """An inclusive range of days."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        """Say whether ``day`` lies in the span."""
        return self.first <= day <= self.last

    def __str__(self) -> str:
        """Render as ``first … last``."""
        return f"{self.first} … {self.last}"

    def days(self) -> tuple[date, ...]:
        """Return every day of the span, in order."""
        return tuple(self.first + DAY * i for i in range((self.last - self.first).days + 1))


class Windows(Record):
    """The days of one night, all derived from the cutoff; nothing else tells a run the time."""

    whole: Span  # every labelled day that the night reads
    fit: Span  # the trees are grown on these
    stop: Span  # early stopping watches these, later than every fitted day
    holdout: Span  # neither of the above has seen these; the challenger is evaluated here

    @property
    def newest(self) -> date:
        """The newest labelled day, which the league scores."""
        return self.whole.last


def windows(cutoff: date, *, days: int, holdout_days: int, stop_days: int, label_delay_days: int) -> Windows:
    """Cut the night's days.

    Args:
        cutoff: the night's date; partitions up to and including it may be seen.
        days: length of the whole window in days, the hold-out included.
        holdout_days: days at the end that are withheld from the fit.
        stop_days: days before the hold-out on which early stopping watches.
        label_delay_days: how many days a label takes to become known.
    """
    last = cutoff - DAY * label_delay_days
    first = last - DAY * (days - 1)
    holdout = Span(first=last - DAY * (holdout_days - 1), last=last)
    stop = Span(first=holdout.first - DAY * stop_days, last=holdout.first - DAY)
    return Windows(
        whole=Span(first=first, last=last),
        fit=Span(first=first, last=stop.first - DAY),
        stop=stop,
        holdout=holdout,
    )
