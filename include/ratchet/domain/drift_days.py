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
_SHOWN, _HEAT, _TOLD, _MOST = 8, 28, 5, 10
_NOISE = 2.0  # standard deviations of what rows by chance give
_UPPER = 0.9  # quantile of the past up to which a distance is usual
_LEAST = 0.02  # index below which no difference is of interest to anybody
_PREDICTED = {CONFIDENCE, PREDICTION}


class _Channel(NamedTuple):
    """One subject, in one way of looking at it, over all days; NaN where there is too little to compare."""

    subject: str
    against: Against
    span: int
    usual: Floats  # the index of each day, against days as long before it as a fresh champion's are
    usually_far: Floats  # of this what is beyond what rows by chance give
    psi: Floats  # the same against what this champion was trained on, from the days on that it has not seen
    far: Floats


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
    """Hold each day against the days before it, as far back and as long as a fresh champion's are."""
    fine, has = days.cumulated(subject, profile.bins[subject].size)
    first, seen = _learnt_from(profile, subject)
    length, gap = (seen - first).days + 1, (profile.last - seen).days
    fewest = min(_FEWEST, max(length // 2, 1)) if subject in _PREDICTED else _FEWEST
    now = np.arange(days.count) + 1  # one past each day
    since, until = days.number(first), days.number(seen) + 1
    unseen = now > until

    def distances(counts: Floats, span: int, low: Any, high: Any) -> tuple[Floats, Floats]:
        start = np.maximum(now - span, 0)
        low, high = (np.clip(side, 0, days.count) for side in (low, high))
        enough = (has[high] - has[low] >= fewest) & (has[now] - has[start] >= (span + 1) // 2) & days.there
        return _distances(counts[high] - counts[low], counts[now] - counts[start], enough)

    # What is missing or was never met is seen best when the weather of all other values is left out of it.
    coarse = np.eye(3)[list(profile.bins[subject].strange)]
    for counts in (fine, fine @ coarse):
        for span in _SPANS:
            before = distances(counts, span, now - span - _BEFORE, now - span)
            yield _Channel(subject, "previous", span, *before, *before)
            then = distances(counts, span, now - 1 - gap - length, now - 1 - gap)
            champion = distances(counts, span, np.full(len(now), since), np.full(len(now), until))
            own = (np.where(unseen, c, t) for c, t in zip(champion, then, strict=True))
            yield _Channel(subject, "training", span, *then, *own)


def _learnt_from(profile: Profile, subject: str) -> tuple[date, date]:
    """Return the days of the champion that later ones are held against; of predictions those that it was not grown on."""
    if subject in _PREDICTED:
        return profile.tried_from, profile.last
    return profile.first, profile.seen_through


def _distances(before: Floats, after: Floats, enough: Flags) -> tuple[Floats, Floats]:
    """Return the index of each day, and what of it is beyond what rows by chance give."""
    psi = np.where(enough, indices(before, after), np.nan)
    free = np.maximum(((before > 0) | (after > 0)).sum(axis=1) - 1, 0)
    rows = 1 / np.maximum(before.sum(axis=1), 1) + 1 / np.maximum(after.sum(axis=1), 1)
    chance = (free + _NOISE * np.sqrt(2 * free)) * rows
    return psi, np.maximum(psi - chance, 0.0)


class _Scores(NamedTuple):
    """Distances by channel and day, in units of what is usual for the channel."""

    past: Floats  # as known then; the least of as many nights as are asked for
    own: Floats  # against what this champion was trained on, likewise
    single: Floats  # the same of each night alone


def _scores(channels: Sequence[_Channel], there: Flags, rule: Drift) -> _Scores:
    """Scale the distances by all days alike, tonight among them: it is not treated differently from those it is ranked with."""
    far, past = np.array([c.far for c in channels]), np.array([c.usually_far for c in channels])
    past[:, -1] = far[:, -1]
    middle, upper = (_quantile(past, ~np.isnan(past), share)[:, None] for share in (0.5, _UPPER))

    def scaled(values: Floats) -> Floats:
        units = (values - middle) / (upper - middle + max(rule.min_effect, _LEAST))
        found: Floats = np.where(np.isnan(values), np.nan, np.where(values < rule.min_effect, -np.inf, units))
        return found

    single, rows = scaled(far), np.flatnonzero(there)
    return _Scores(_steady(scaled(past), rows, rule.nights), _steady(single, rows, rule.nights), single)


def _steady(scaled: Floats, rows: Any, nights: int) -> Floats:
    """Return of each day the least of it and the days before: what passes within a night is weather."""
    steady = scaled.copy()
    for back in range(1, nights):
        steady[:, rows[back:]] = np.minimum(steady[:, rows[back:]], scaled[:, rows[:-back]])
        steady[:, rows[:back]] = np.nan
    return steady


def _quantile(values: Floats, known: Flags, share: float) -> Floats:
    """Return a quantile of what is known in each row; numpy's own takes its time over many short ones."""
    ordered, last = np.sort(values, axis=1), np.maximum(known.sum(axis=1) - 1, 0)  # NaN come last
    place = share * last
    low, high = (
        np.take_along_axis(ordered, f(place).astype(np.int64)[:, None], axis=1)[:, 0] for f in (np.floor, np.ceil)
    )
    found: Floats = low + (place - np.floor(place)) * (high - low)
    return found


class _Judged:
    """Tonight among the past."""

    def __init__(
        self,
        profile: Profile,
        days: _Days,
        channels: Sequence[_Channel],
        scores: _Scores,
        rule: Drift,
        champion: int | None,
    ) -> None:
        self.profile, self.days, self.channels, self.rule, self.champion = profile, days, channels, rule, champion
        self.scores = scores
        self.needed = int(np.ceil(_MONTH / rule.alarms_per_month)) - 1
        past = ~np.isnan(scores.past)
        # A subject that has been seen for fewer days than the budget needs is shown, and not judged.
        self.judged: Flags = ~np.isnan(scores.own[:, -1]) & (past[:, :-1].sum(axis=1) >= self.needed)
        lasting = self.judged & np.array([c.subject not in _PREDICTED for c in channels])
        known = past[lasting].all(axis=0) if lasting.any() else np.zeros(days.count, bool)
        self.past = np.array([i for i in np.flatnonzero(known[:-1]) if i >= days.count - 1 - _LONGEST], dtype=np.int64)

    def _best(self, scores: Floats) -> Floats:
        """Return the furthest subject of each day."""
        judged = scores[self.judged]
        found: Floats = np.where(np.isnan(judged), -np.inf, judged).max(axis=0, initial=-np.inf)
        return found

    def result(self) -> DriftResult:
        tonight = self.days.count - 1
        day = self.days.day(tonight)
        told: dict[str, Any] = {"day": day, "champion": self.champion, "needed": self.needed}
        crossings = int((len(self.past) + 1) * self.rule.alarms_per_month / _MONTH)
        if crossings < 1:
            seen = len(self.past) or int((~np.isnan(self.scores.past[:, :-1])).sum(axis=1).max(initial=0))
            words = (
                f"{seen} past days are too few to keep a budget of {self.rule.alarms_per_month:g} false alarms a month, "
                f"which takes {self.needed}: nothing is judged yet"
            )
            top = self._told(np.full(len(self.channels), False))
            return DriftResult(state="too_short", words=words, history=seen, subjects=top, **told)
        past = self._best(self.scores.past)[self.past]
        limit = _limit(past, self.past, crossings)
        best = self._best(self.scores.own)
        over: Flags = self.judged & (self.scores.own[:, tonight] > limit)
        score = float(best[tonight])
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
        since = self._since(best, limit)
        moved = [s for s in told["subjects"] if s.drifted]
        firsts = [together[0] for together in _each(moved)]
        names = ", ".join(f"{_named(s.subject)} (index {s.psi:.2f}, usual up to {s.usual:.2f})" for s in firsts[:_TOLD])
        words = f"drift on {day}" + (f", since {since}" if since != day else "") + f": {names}"
        words += f" and {len(firsts) - _TOLD} more" if len(firsts) > _TOLD else ""
        findings = tuple(self._finding(s, day, since) for s in _each(moved)[:_MOST])
        return DriftResult(state="drift", words=words, since=since, findings=findings, **told)

    def _since(self, best: Floats, limit: float) -> date:
        first = self.days.count - 1
        for i in reversed(self.past.tolist()):
            if first - i > APART:
                break
            if best[i] > limit:
                first = i
        return self.days.day(first)

    def _told(self, over: Flags) -> tuple[SubjectDrift, ...]:
        """Return what has drifted, and what has moved most otherwise: each subject in the way that shows it best."""
        tonight = self.scores.own[:, -1]
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
            first, seen = _learnt_from(self.profile, channel.subject)
            low, high = max(self.days.number(first), 0), max(self.days.number(seen) + 1, 0)
        before, after = counts[high] - counts[low], counts[end] - counts[start]
        number = bins.kind == "number"
        past = channel.usual[:-1][~np.isnan(channel.usual[:-1])]
        score = self.scores.own[i, -1]
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
        for channel, scaled in zip(self.channels, self.scores.single[:, days], strict=True):
            values = np.where(np.isneginf(scaled), 0.0, np.maximum(scaled, 0.0) / unit)
            found[channel.subject] = np.fmax(found.get(channel.subject, np.full(len(days), np.nan)), values)
        hottest = sorted(
            found, key=lambda name: (name not in {LABEL, *_PREDICTED}, -np.nan_to_num(found[name][-APART:]).max())
        )[:20]
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
    return list(found.values())


def _named(subject: str) -> str:
    return {PREDICTION: "predictions", CONFIDENCE: "confidence of the predictions"}.get(subject, subject)
