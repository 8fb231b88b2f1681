"""What no single row shows: days that differ from those before them.

Days are the unit, never rows: rows of one day share their weather. Whatever is compared is compared with the *range* that
days before have seen, so that a pipeline whose base rate swings from 4 % to 79 % is left in peace, and one whose rate never
moved is not. Nothing here reads a row or the clock: the summaries of the partitions and the night's days decide.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from ratchet.domain.duplicates import duplicates, overlap
from ratchet.domain.findings import Finding, acting
from ratchet.domain.records import Record
from ratchet.domain.statistics import robust_spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from ratchet.domain.data_rules import WindowChecks
    from ratchet.domain.summaries import Part, PartSummary
    from ratchet.domain.windows import Windows

_WEEKS = 8  # same weekdays that say what is usual
_FEW = 3  # fewer same weekdays say nothing, so all days do
_SCATTER = 4.0  # robust standard deviations within which days scatter
_SCATTERED = 2.0  # robust standard deviations beyond its range within which a share that always scatters is no news
_NOISE = 3.0  # standard errors of a share of so many rows
_DOUBLED = math.log(2)  # log-odds below which no change of a share is worth a word, however still it was
_CERTAIN = 30  # a class or a column of which so many rows were due, and none came, has gone
_NAMED = 4  # columns that a message names
_LISTED = 10  # further days that a message lists
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


class DayShares(Record):
    """Rows of one day and how many values of each column are missing, as counted."""

    rows: int
    missing: dict[str, int]


def findings(parts: Sequence[Part], days: Windows, fresh: frozenset[date], checks: WindowChecks) -> tuple[Finding, ...]:
    """Return everything that the window shows and no row does.

    Args:
        parts: the window's files by day, those in quarantine left out.
        days: the night's days.
        fresh: days that this night sees for the first time, or anew. A warning is given once, when the day is fresh; what holds or
            rejects does so for as long as the day is in the hold-out.
        checks: what the spec asks.
    """
    by_day: dict[date, list[PartSummary]] = {}
    for part in parts:
        by_day.setdefault(part.summary.day, []).append(part.summary)
    of_days: list[tuple[date, Finding]] = []
    for day, history in compared(sorted(by_day), days, fresh, checks):
        found: list[Finding] = []
        if looked_at(checks.volume.action, day, fresh):
            found += _volume(day, by_day, history, checks)
        if looked_at(checks.nulls.action, day, fresh):
            found += missing_values(day, _shares(by_day[day]), [_shares(by_day[d]) for d in history], checks, "column")
        if looked_at(checks.future.action, day, fresh):
            found += _ahead(day, by_day[day], [by_day[d] for d in history], checks)
        if looked_at(checks.labels.action, day, fresh):
            found += _labels(day, by_day[day], [by_day[d] for d in history], checks)
        of_days += [(day, each) for each in found]
    return (*each_once(of_days), *duplicates(parts, fresh, checks), *overlap(parts, days, checks))


def each_once(of_days: Sequence[tuple[date, Finding]]) -> list[Finding]:
    """Tell what several days show of one subject once, in the words of the first of them, with the others named.

    A column that is filled from some day on, or a class that comes for the first time, stays so for many days.
    """
    alike: dict[tuple[str, str, bool], list[tuple[date, Finding]]] = {}
    for day, found in of_days:
        above = (found.value or 0) > (found.limit or 0)  # a flood is not like a drought
        alike.setdefault((found.kind, found.subject, above), []).append((day, found))
    return [
        first.model_copy(update={"words": first.words + _likewise([day for day, _ in more])})
        for (_, first), *more in alike.values()
    ]


def _likewise(more: Sequence[date]) -> str:
    if not more:
        return ""
    if len(more) > _LISTED:
        return f". It is likewise on {len(more)} later days, {more[0]} … {more[-1]}"
    return f". It is likewise on {', '.join(map(str, more))}"


def compared(
    there: Sequence[date], days: Windows, fresh: frozenset[date], checks: WindowChecks
) -> list[tuple[date, list[date]]]:
    """Return each day that is compared tonight, with the days that it is held against: those before the hold-out."""
    before = [day for day in there if day < days.holdout.first]
    found = []
    for day in there:
        if day in checks.known_days or not (day >= days.holdout.first or day in fresh):
            continue
        history = before if day >= days.holdout.first else [d for d in before if d not in fresh]
        if len(history) >= checks.min_history:
            found.append((day, history))
    return found


def looked_at(action: str, day: date, fresh: frozenset[date]) -> bool:
    """Say whether a check looks at a day tonight: it warns once, and holds as long as the day is compared."""
    return action != "off" and (action != "warn" or day in fresh)


def _todo(day: date, what: str) -> str:
    return f"{what}; where the day is right as it is, name {day} in validation.window.known_days"


# --- volume


def _volume(
    day: date, by_day: Mapping[date, Sequence[PartSummary]], history: Sequence[date], checks: WindowChecks
) -> list[Finding]:
    rows = {d: sum(part.rows for part in by_day[d]) for d in (day, *history)}
    logs = {d: math.log(max(n, 1)) for d, n in rows.items()}
    alike = [d for d in history if d.weekday() == day.weekday()][-_WEEKS:]
    whose = _WEEKDAYS[day.weekday()]
    if len(alike) < _FEW:
        alike, whose = list(history), "days"
    usual = median(logs[d] for d in alike)
    by_weekday = {w: median([logs[d] for d in history if d.weekday() == w] or [usual]) for w in range(7)}
    around = [logs[d] - (by_weekday[d.weekday()] if whose != "days" else usual) for d in history]
    limit = max(math.log(checks.volume.factor), _SCATTER * robust_spread(around), _SCATTER / math.sqrt(math.exp(usual)))
    off = logs[day] - usual
    if abs(off) <= limit:
        return []
    low, high = (f(rows[d] for d in alike) for f in (min, max))
    words = (
        f"{day} has {rows[day]} rows, {math.exp(abs(off)):.1f} times {'fewer' if off < 0 else 'more'} than usual: the last {len(alike)} "
        f"{whose} had {low} to {high}. "
        + _todo(
            day,
            "Look whether it landed whole" if off < 0 else "Look whether rows came twice, or another day's with them",
        )
    )
    return [
        Finding(
            kind="volume",
            action=acting(checks.volume.action),
            subject=str(day),
            words=words,
            value=rows[day],
            limit=round(math.exp(usual + math.copysign(limit, off)), 1),
        )
    ]


# --- missing values


def _shares(parts: Sequence[PartSummary]) -> DayShares:
    missing: dict[str, int] = {}
    for part in parts:
        for name, count in part.missing.items():
            missing[name] = missing.get(name, 0) + count
    return DayShares(rows=sum(part.rows for part in parts), missing=missing)


def missing_values(
    day: date, now: DayShares, before: Sequence[DayShares], checks: WindowChecks, what: str
) -> list[Finding]:
    """Say, in one finding for the whole day, of which columns more or fewer values are missing than on any day before."""
    check, worst = checks.nulls, []
    for name, count in now.missing.items():
        seen = [day_.missing[name] / day_.rows for day_ in before if name in day_.missing and day_.rows]
        if len(seen) < checks.min_history or not now.rows:
            continue
        share, low, high = count / now.rows, min(seen), max(seen)
        near = min(max(share, low), high)  # the end of the range that it has left
        allowed = max(check.jump, _SCATTERED * robust_spread(seen)) + _error(near, now.rows)
        gone = count == now.rows and (1 - high) * now.rows >= _CERTAIN
        if abs(share - near) > allowed or gone:
            worst.append(
                (abs(share - near) - allowed, name, share, low, high, near + math.copysign(allowed, share - near))
            )
    if not worst:
        return []
    worst.sort(key=lambda found: (-found[0], found[1]))
    named = "; ".join(
        f"{name}: {share:.0%}, the {len(before)} days before {_range(low, high)}"
        for _, name, share, low, high, _ in worst[:_NAMED]
    )
    more = f"; and {len(worst) - _NAMED} more {what}s" if len(worst) > _NAMED else ""
    _, first, share, _, _, limit = worst[0]
    words = f"missing values on {day}: {named}{more}. " + _todo(
        day, f"Look at who fills {what} {first}, and land the day again"
    )
    return [
        Finding(
            kind="nulls", action=acting(check.action), subject=f"{what} {first}", words=words, value=share, limit=limit
        )
    ]


def _range(low: float, high: float) -> str:
    return f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"


def _error(share: float, rows: int) -> float:
    """How far a share of so many rows may lie off by chance."""
    return _NOISE * math.sqrt(max(share * (1 - share), 0.0) / rows) + 1 / rows


# --- times from the future


def _ahead(
    day: date, now: Sequence[PartSummary], before: Sequence[Sequence[PartSummary]], checks: WindowChecks
) -> list[Finding]:
    """Name the columns with times from the future that had none on any day before: those that plan ahead always have some."""
    counts: dict[str, int] = {}
    for part in now:
        for name, count in part.ahead.items():
            counts[name] = counts.get(name, 0) + count
    usual = {name for parts in before for part in parts for name, count in part.ahead.items() if count}
    odd = {name: count for name, count in sorted(counts.items()) if count and name not in usual}
    if not odd:
        return []
    named = ", ".join(f"{name} in {count} rows" for name, count in list(odd.items())[:_NAMED])
    more = f" and {len(odd) - _NAMED} more columns" if len(odd) > _NAMED else ""
    words = (
        f"times of {day} lie more than a day after it: {named}{more}; on the {len(before)} days before there were none. "
        + _todo(day, "Look whether another day's rows came with it, or a clock is wrong, and land the day again")
    )
    return [
        Finding(
            kind="time",
            action=acting(checks.future.action),
            subject=f"column {next(iter(odd))}",
            words=words,
            value=sum(odd.values()),
            limit=0,
        )
    ]


# --- labels


def _labels(
    day: date, now: Sequence[PartSummary], before: Sequence[Sequence[PartSummary]], checks: WindowChecks
) -> list[Finding]:
    labels = _together(now)
    earlier = [known for parts in before if (known := _together(parts)) is not None]
    if labels is None or len(earlier) < checks.min_history:
        return []
    if labels.classes is None:
        return _mean(day, labels, earlier, checks)
    classes = sorted({name for each in (labels, *earlier) for name in each.classes or {}}, reverse=True)
    off = [each for name in classes if (each := _class(day, name, labels, earlier, checks))]
    return [max(off, key=lambda each: round(each[0], 9))[1]] if off else []


class _Day(NamedTuple):
    """The labels of a day's files together."""

    classes: dict[str, int] | None  # None of a regression
    rows: int  # labelled
    mean: float


def _together(parts: Sequence[PartSummary]) -> _Day | None:
    """Add up the labels of a day's files; None where those of one are not known, or there are none."""
    known = [part.labels for part in parts if part.labels is not None]
    rows = sum(part.rows for part in parts) - sum(labels.unlabelled for labels in known)
    if len(known) < len(parts) or not rows:
        return None
    classes: dict[str, int] = {}
    for labels in known:
        for name, count in (labels.classes or {}).items():
            classes[name] = classes.get(name, 0) + count
    regression = any(labels.classes is None for labels in known)
    return _Day(None if regression else classes, rows, math.fsum(labels.total for labels in known) / rows)


def _class(
    day: date, name: str, labels: _Day, earlier: Sequence[_Day], checks: WindowChecks
) -> tuple[float, Finding] | None:
    """Compare how often a class comes; return how far it is off, and the finding."""
    rows = labels.rows
    share = (labels.classes or {}).get(name, 0) / rows
    counts = [((found.classes or {}).get(name, 0), found.rows) for found in earlier]
    seen = [count / n for count, n in counts]
    low, high = min(seen), max(seen)
    near = min(max(share, low), high)
    off = abs(share - near)
    odds = [_log_odds(count, n) for count, n in counts]
    scatter = max(robust_spread(odds), 1 / math.sqrt(max(rows * near * (1 - near), 1.0)))
    moved = abs(_log_odds(round(share * rows), rows) - _log_odds(round(near * rows), rows))
    jumped = off > checks.labels.jump + _error(near, rows)
    strayed = off > _error(near, rows) and moved > max(_DOUBLED, checks.labels.sds * scatter)
    gone = share == 0 and low * rows >= _CERTAIN
    if not (jumped or strayed or gone):
        return None
    what = "has no row" if gone else f"has {share:.1%} of the labelled rows"
    words = f"class {name} {what} of {day}; on the {len(earlier)} days before it had {low:.1%} to {high:.1%}. " + _todo(
        day, "Look at how that day was labelled, and land it again"
    )
    limit = near + math.copysign(checks.labels.jump, share - near)
    finding = Finding(
        kind="labels",
        action=acting(checks.labels.action),
        subject=f"class {name}",
        words=words,
        value=share,
        limit=min(max(limit, 0.0), 1.0),
    )
    return off, finding


def _mean(day: date, labels: _Day, earlier: Sequence[_Day], checks: WindowChecks) -> list[Finding]:
    seen = [found.mean for found in earlier]
    low, high = min(seen), max(seen)
    near = min(max(labels.mean, low), high)
    # A label that never moved has no spread of its own; what is within its own range is never far off.
    scatter = max(robust_spread(seen), (high - low) / len(seen), abs(near) * 1e-6)
    off = abs(labels.mean - near)
    if off <= checks.labels.sds * scatter:
        return []
    words = (
        f"the label's mean on {day} is {labels.mean:.4g}; on the {len(earlier)} days before it was {low:.4g} to {high:.4g}, with a "
        f"standard deviation of {scatter:.2g}. " + _todo(day, "Look at how that day was measured, and land it again")
    )
    limit = near + math.copysign(checks.labels.sds * scatter, labels.mean - near)
    return [
        Finding(
            kind="labels",
            action=acting(checks.labels.action),
            subject="mean",
            words=words,
            value=labels.mean,
            limit=limit,
        )
    ]


def _log_odds(count: float, rows: int) -> float:
    return math.log((count + 0.5) / (rows - count + 0.5))
