"""Drift: how far a day has moved, and whether that is more than this pipeline's days are used to move.

The population stability index is an effect size: it does not grow with the number of rows, and what rows by chance give is
taken off. But rows of one day share their weather, so how far a day lies from others is judged by days alone: each
past day is held against what was known before it, as tonight's is against what is known before tonight, and the largest distance of
all subjects, scaled by what is usual for each, is ranked among those of the past. The limit is the level that the
past has crossed no more often than the budget of alarms allows (a conformal rank, over episodes): nothing is assumed of how
distances are distributed, and all subjects share one budget.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ratchet.domain.drift import divergence, indices, kolmogorov, wasserstein
from ratchet.domain.drifted import APART, DriftResult, SubjectDrift
from ratchet.domain.findings import Finding
from ratchet.domain.profiles import CONFIDENCE, LABEL, PREDICTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from ratchet.domain.data_rules import Drift
    from ratchet.domain.drifted import Against
    from ratchet.domain.profiles import Counts, Profile

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]

_MONTH = 30.4375  # days
_DAY = timedelta(days=1)
_BEFORE = 28  # days: the partitions before, whole weeks of them
_FEWEST = 14  # days that anything is held against
_SPANS = (1, 7)  # days that are held against others: the newest alone sees a break, a week together sees what is slow
_LONGEST = 365  # days of history
_SHOWN, _HEAT, _TOLD = 8, 28, 5
_NOISE = 2.0  # standard deviations of what rows by chance give
_UPPER = 0.9  # quantile of the past up to which a distance is usual
_LEAST = 0.02  # index below which no difference is of interest to anybody
_CODES = {CONFIDENCE, LABEL, PREDICTION}


class _Channel(NamedTuple):
    """One subject, in one way of looking at it, over all days."""

    subject: str
    against: Against
    span: int
    psi: Floats  # by day; NaN where there is too little to compare
    far: Floats  # beyond what rows by chance give


class _Days:
    """Counts by consecutive days."""

    def __init__(self, days: Mapping[date, Counts], last: date) -> None:
        known = [day for day in days if last - _DAY * 2 * _LONGEST < day <= last]
        self.first = min(known, default=last)
        self.count = (last - self.first).days + 1
        self._days = {(day - self.first).days: days[day] for day in known}
        self.there = np.array([i in self._days for i in range(self.count)])

    def number(self, day: date) -> int:
        return (day - self.first).days

    def day(self, number: int) -> date:
        return self.first + _DAY * number

    def cumulated(self, subject: str, size: int) -> tuple[Floats, Floats]:
        """Return counts, and days that have any, before each day: one row more than there are days."""
        counts = np.zeros((self.count + 1, size))
        for i, found in self._days.items():
            if len(found.get(subject, ())) == size:
                counts[i + 1] = found[subject]
        has = (counts.sum(axis=1) > 0).astype(np.float64)
        return counts.cumsum(axis=0), has.cumsum()


def judge(profile: Profile, fresh: Mapping[date, Counts], rule: Drift, champion: int | None = None) -> DriftResult:
    """Say how far the newest fresh day has moved.

    Args:
        profile: of the champion.
        fresh: counts of the days that it could not look at, in its bins.
        rule: what the spec asks for.
        champion: its version.
    """
    day = max((d for d in fresh if d > profile.last), default=None)
    if day is None:
        words = f"nothing is newer than what version {champion} was made of ({profile.last})"
        return DriftResult(state="unknown", words=words, champion=champion)
    days = _Days({**profile.days, **fresh}, day)
    channels = [c for subject in sorted(profile.bins) for c in _channels(profile, days, subject)]
    scores = _scores(channels, days.there, rule)
    return _Judged(profile, days, channels, scores, rule, champion).result()


def _channels(profile: Profile, days: _Days, subject: str) -> Iterator[_Channel]:
    """Hold each day against the days before it, as far back and as long as tonight is."""
    size = profile.bins[subject].size
    counts, has = days.cumulated(subject, size)
    predicted = subject in {PREDICTION, CONFIDENCE}
    first, seen = (profile.tried_from, profile.last) if predicted else (profile.first, profile.seen_through)
    length, gap = (seen - first).days + 1, (profile.last - seen).days
    now = np.arange(days.count) + 1  # one past each day
    for span in _SPANS:
        start = np.maximum(now - span, 0)
        pools = {"training": (now - 1 - gap - length, now - 1 - gap), "previous": (start - _BEFORE, start)}
        for against, (since, until) in pools.items():
            lo, hi = np.maximum(since, 0), np.maximum(until, 0)
            if against == "training":  # tonight's is what the champion was trained on, however long ago
                lo[-1], hi[-1] = max(days.number(first), 0), max(days.number(seen) + 1, 0)
            before, after = counts[hi] - counts[lo], counts[now] - counts[start]
            enough = (
                has[hi] - has[lo] >= min(_FEWEST, max(length // 2, 1)) if predicted else has[hi] - has[lo] >= _FEWEST
            )
            enough &= (has[now] - has[start] >= (span + 1) // 2) & days.there
            yield _channel(subject, against, span, before, after, enough)  # type: ignore[arg-type]


def _channel(
    subject: str,
    against: Against,
    span: int,
    before: Floats,
    after: Floats,
    enough: Flags,
) -> _Channel:
    psi = np.where(enough, indices(before, after), np.nan)
    free = np.maximum(((before > 0) | (after > 0)).sum(axis=1) - 1, 0)
    rows = 1 / np.maximum(before.sum(axis=1), 1) + 1 / np.maximum(after.sum(axis=1), 1)
    chance = (free + _NOISE * np.sqrt(2 * free)) * rows
    return _Channel(subject, against, span, psi, np.maximum(psi - chance, 0.0))


def _scores(channels: Sequence[_Channel], there: Flags, rule: Drift) -> tuple[Floats, Floats]:
    """Return how far each channel's day lay off, and the least of as many nights as are asked for, by channel and day.

    The scale is made of all days alike, tonight among them: tonight is not treated differently from those that it is ranked with.
    """
    far = np.array([c.far for c in channels])
    known = ~np.isnan(far)
    least = max(rule.min_effect, _LEAST)  # below which differences do not matter
    scaled = np.full(far.shape, np.nan)
    for i, here in enumerate(known):
        values = far[i, here]
        if len(values):
            middle, upper = np.quantile(values, [0.5, _UPPER])
            scaled[i, here] = np.where(values < rule.min_effect, -np.inf, (values - middle) / (upper - middle + least))
    steady = scaled.copy()
    rows = np.flatnonzero(there)
    for back in range(1, rule.nights):
        steady[:, rows[back:]] = np.minimum(steady[:, rows[back:]], scaled[:, rows[:-back]])
        steady[:, rows[:back]] = np.nan
    return scaled, steady


class _Judged:
    """Tonight among the past."""

    def __init__(
        self,
        profile: Profile,
        days: _Days,
        channels: Sequence[_Channel],
        scores: tuple[Floats, Floats],
        rule: Drift,
        champion: int | None,
    ) -> None:
        self.profile, self.days, self.channels, self.rule, self.champion = profile, days, channels, rule, champion
        self.scaled, self.steady = scores
        known = ~np.isnan(self.steady)
        # A subject that has been seen for fewer days than the budget needs is shown, and not judged.
        self.needed = int(np.ceil(_MONTH / rule.alarms_per_month)) - 1
        self.judged = known[:, -1] & (known[:, :-1].sum(axis=1) >= self.needed)
        used = self.steady[self.judged]
        best = np.where(np.isnan(used), -np.inf, used).max(axis=0) if len(used) else np.full(days.count, np.nan)
        some = known[self.judged].mean(axis=0) >= 0.5 if len(used) else np.zeros(days.count, bool)  # noqa: PLR2004  most
        self.best: Floats = np.where(some, best, np.nan)
        self.past = [i for i in np.flatnonzero(some[:-1]) if i >= days.count - 1 - _LONGEST]

    def result(self) -> DriftResult:
        tonight = self.days.count - 1
        day = self.days.day(tonight)
        told: dict[str, Any] = {"day": day, "champion": self.champion, "needed": self.needed}
        crossings = int((len(self.past) + 1) * self.rule.alarms_per_month / _MONTH)
        if crossings < 1 or np.isnan(self.best[tonight]):
            seen = self._longest()
            words = (
                f"{seen} past days are too few to keep a budget of {self.rule.alarms_per_month:g} false alarms a month, which "
                f"takes {self.needed}: nothing is judged yet"
            )
            top = self._told(np.full(len(self.channels), False))
            return DriftResult(state="too_short", words=words, history=seen, subjects=top, **told)
        past = self.best[self.past]
        limit = _limit(past, np.array(self.past), crossings)
        over = self.judged & (self.steady[:, tonight] > limit)
        score = float(self.best[tonight])
        told |= {
            "history": len(past),
            "score": score if np.isfinite(score) else None,
            "limit": limit if np.isfinite(limit) else None,
            "rank": float((1 + (past >= score).sum()) / (len(past) + 1)),
            "subjects": self._told(over),
            **self._warmth(limit),
        }
        if not over.any():
            usual = f"no subject has moved further than {len(past)} past days allow"
            return DriftResult(state="quiet", words=usual, **told)
        since = self._since(limit)
        moved = [s for s in told["subjects"] if s.drifted]
        names = ", ".join(
            dict.fromkeys(f"{_named(s.subject)} (index {s.psi:.2f}, usual up to {s.usual:.2f})" for s in moved[:5])
        )
        more = len({s.subject for s in moved}) - 5
        words = f"drift on {day}" + (f", since {since}" if since != day else "") + f": {names}"
        words += f" and {more} more" if more > 0 else ""
        findings = tuple(self._finding(s, day, since) for s in _each(moved))
        return DriftResult(state="drift", words=words, since=since, findings=findings, **told)

    def _longest(self) -> int:
        """Return how many past days the subject has that has most."""
        known = ~np.isnan(self.steady[:, :-1])
        return int(known.sum(axis=1).max()) if len(known) else 0

    def _since(self, limit: float) -> date:
        first = last = self.days.count - 1
        for i in reversed(self.past):
            if last - i > APART:
                break
            if self.best[i] > limit:
                first = last = int(i)
        return self.days.day(first)

    def _told(self, over: Flags) -> tuple[SubjectDrift, ...]:
        """Return what has drifted, and what has moved most otherwise: each subject in the way that shows it best."""
        tonight = self.steady[:, -1] if not over.any() else np.where(over, self.steady[:, -1], self.scaled[:, -1])
        order = sorted(
            (i for i in range(len(self.channels)) if not np.isnan(self.channels[i].psi[-1])),
            key=lambda i: (not over[i], -np.nan_to_num(tonight[i], nan=-9e9, neginf=-8e9), -self.channels[i].psi[-1]),
        )
        shown: dict[tuple[str, str], int] = {}
        for i in order:
            channel = self.channels[i]
            shown.setdefault((channel.subject, channel.against if over[i] else ""), i)
        drifted = [i for i in shown.values() if over[i]]
        subjects = {self.channels[i].subject for i in drifted}
        others = [i for (subject, _), i in shown.items() if not over[i] and subject not in subjects]
        return tuple(self._subject(i, drifted=bool(over[i])) for i in [*drifted, *others][: max(_SHOWN, len(drifted))])

    def _subject(self, i: int, *, drifted: bool) -> SubjectDrift:
        channel, bins = self.channels[i], self.profile.bins[self.channels[i].subject]
        counts, _ = self.days.cumulated(channel.subject, bins.size)
        end = self.days.count
        start = max(end - channel.span, 0)
        if channel.against == "previous":
            low, high = max(start - _BEFORE, 0), start
        else:
            predicted = channel.subject in {PREDICTION, CONFIDENCE}
            own = self.profile
            first, seen = (own.tried_from, own.last) if predicted else (own.first, own.seen_through)
            low, high = max(self.days.number(first), 0), max(self.days.number(seen) + 1, 0)
        before, after = counts[high] - counts[low], counts[end] - counts[start]
        number = bins.kind == "number"
        past = channel.psi[:-1][~np.isnan(channel.psi[:-1])]
        score = self.steady[i, -1]
        return SubjectDrift(
            subject=channel.subject,
            against=channel.against,
            days=channel.span,
            psi=float(channel.psi[-1]),
            js=divergence(before, after),
            ks=kolmogorov(before, after) if number else None,
            wasserstein=wasserstein(bins, before, after) if number else None,
            usual=float(np.quantile(past, _UPPER)) if len(past) else 0.0,
            score=float(score) if np.isfinite(score) else 0.0,
            drifted=drifted,
            bins=bins.labels,
            before=tuple((before / max(before.sum(), 1)).round(4).tolist()),
            after=tuple((after / max(after.sum(), 1)).round(4).tolist()),
        )

    def _warmth(self, limit: float) -> dict[str, Any]:
        """Return how far the subjects lay off on the last days, in units of the limit."""
        days = np.flatnonzero(self.days.there)[-_HEAT:]
        unit = limit if np.isfinite(limit) and limit > 0 else 1.0
        found: dict[str, Floats] = {}
        for channel, scaled in zip(self.channels, self.scaled[:, days], strict=True):
            values = np.where(np.isneginf(scaled), 0.0, np.maximum(scaled, 0.0) / unit)
            found[channel.subject] = np.fmax(found.get(channel.subject, np.full(len(days), np.nan)), values)
        hottest = sorted(found, key=lambda name: (name not in _CODES, -np.nan_to_num(found[name][-APART:]).max()))[:20]
        heat = {name: tuple(None if np.isnan(v) else round(float(v), 2) for v in found[name]) for name in hottest}
        return {"heat_days": tuple(self.days.day(int(i)) for i in days), "heat": heat}

    def _finding(self, subjects: Sequence[SubjectDrift], day: date, since: date) -> Finding:
        """Say of one subject how it has moved.

        What has moved away from the champion's training only is mended by a fresh model; what the days before did not
        look like makes the fresh model doubtful too, and only that holds it back.
        """
        worst = max(subjects, key=lambda s: s.score)
        sudden = any(s.against == "previous" for s in subjects)
        training = f"what champion version {self.champion} was trained on"
        compared = " and ".join(
            f"{s.psi:.2f} from {training if s.against == 'training' else f'the {_BEFORE} days before'}"
            for s in subjects
        )
        moved = np.array(worst.after) - np.array(worst.before)
        most = ", ".join(
            f"{worst.bins[i]}: {100 * worst.before[i]:.1f} % before, {100 * worst.after[i]:.1f} % now"
            for i in np.argsort(-np.abs(moved), kind="stable")[:2]
        )
        days = f"the {worst.days} days to {day}" if worst.days > 1 else f"day {day}"
        advice = (
            "look whether the source has changed; if the change is real, later nights learn it"
            if sudden
            else "the champion is out of date; a newer model would know these days"
        )
        return Finding(
            kind="drift",
            action="hold" if sudden and self.rule.action == "hold" else "warn",
            subject=_named(worst.subject),
            words=f"{_named(worst.subject)}: {days} lies at a population stability index of {compared}, where up to {worst.usual:.2f} is usual"
            + (f"; in this episode since {since}" if since != day else "")
            + f" ({most}). To do: {advice}",
            value=worst.psi,
            limit=worst.usual,
        )


def _limit(past: Floats, when: np.ndarray[Any, Any], crossings: int) -> float:
    """Return the highest level that the past has reached in so many episodes; reaching it again is within the budget."""
    for level in np.unique(past[np.isfinite(past)])[::-1]:
        reached = when[past >= level]
        if 1 + int((np.diff(reached) > APART).sum()) >= crossings:
            return float(level)
    return float("-inf")


def _each(moved: Sequence[SubjectDrift]) -> list[list[SubjectDrift]]:
    """Gather by subject, in order."""
    found: dict[str, list[SubjectDrift]] = {}
    for one in moved:
        found.setdefault(one.subject, []).append(one)
    return list(found.values())[:10]


def _named(subject: str) -> str:
    return {PREDICTION: "predictions", CONFIDENCE: "confidence of the predictions"}.get(subject, subject)
