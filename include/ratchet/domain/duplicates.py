"""Rows that come more than once: in two partitions, twice in one, or on both sides of the cut between training and hold-out.

Each file is sampled by the hash of what names its rows: those whose hash is small. Two files then have the same rows in their
samples as far as they have the same rows, so a few hundred kilobytes tell what a join of the whole window would.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.findings import Finding, acting
from ratchet.domain.statistics import robust_spread
from ratchet.domain.summaries import ALL, Part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from ratchet.domain.data_rules import WindowChecks
    from ratchet.domain.windows import Windows

    Floats = np.ndarray[Any, np.dtype[np.float64]]

_SCATTER = 4.0  # robust standard deviations within which files scatter
_SAMPLED = 64  # rows of a sample from which a share can be told
_ASKED = 0.9  # of the files say how many rows agree by chance
_UNSEEN = 5.0  # pairs that may well have been due where none was seen
_NOISE = 3.0  # standard errors of a share
_RANGE = 0.9  # of the files: what so many show is usual
_PATTERN = 20  # different rows that all come equally often are no chance


class _Sample:
    """The sketches of all files of a window, as one table of (hash, file, how often)."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = [part for part in parts if part.summary.sketch and part.summary.sketch.hashes]
        unpacked = [part.summary.sketch.unpacked() for part in self.parts if part.summary.sketch]
        self.bounds = [part.summary.sketch.bound for part in self.parts if part.summary.sketch]
        sizes = [len(hashes) for hashes, _ in unpacked]
        self.file = np.repeat(np.arange(len(unpacked)), sizes)
        self.hash = np.concatenate([h for h, _ in unpacked]) if unpacked else np.zeros(0, np.uint64)
        self.count = np.concatenate([c for _, c in unpacked]) if unpacked else np.zeros(0, np.int64)
        self.row = np.unique(self.hash, return_inverse=True)[1] if unpacked else np.zeros(0, np.int64)

    @property
    def sizes(self) -> Floats:
        """How many rows of each file are in its sample."""
        sizes: Floats = np.bincount(self.file, self.count, len(self.parts)).astype(np.float64)
        return sizes

    def shares(self, again: np.ndarray[Any, np.dtype[np.bool_]], others: int = ALL) -> Floats:
        """Return for each file the share of its rows that ``again`` marks, as the samples tell it.

        A row that the other's sample leaves out cannot be found there. So only hashes below all bounds are counted, unless
        these are too few: then more are, and the share is no higher than in truth.
        """
        common = self.hash.astype(np.float64) < min([others, *self.bounds])
        n, found = len(self.parts), []
        for which in (common, np.ones_like(common)):
            of = np.bincount(self.file[which], self.count[which], n)
            marked = np.bincount(self.file[which & again], self.count[which & again], n)
            found.append((of, np.divide(marked, of, out=np.zeros(n), where=of > 0)))
        (of, strict), (_, loose) = found
        shares: Floats = np.where(of >= _SAMPLED, strict, loose)
        return shares

    def partner(self, file: int, among: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
        """Return which of some files has most rows of another."""
        mine = np.isin(self.row, self.row[self.file == file])
        others = self.file[mine & among[self.file] & (self.file != file)]
        return int(np.bincount(others, minlength=len(self.parts)).argmax())

    def repeated(self) -> Floats:
        """Return for each file the share of its rows that repeat an earlier row of it."""
        n = len(self.parts)
        of = self.sizes
        shares: Floats = np.divide(of - np.bincount(self.file, minlength=n), of, out=np.zeros(n), where=of > 0)
        return shares

    def times(self, file: int) -> int:
        """Return how often each row of a file comes, where all come equally often; 1 where they do not."""
        counts = self.count[self.file == file]
        return int(np.gcd.reduce(counts)) if len(counts) >= _PATTERN else 1

    def chance(self, rows: Sequence[int]) -> Floats:
        """Return for each file a bound of the share of its rows that others have by chance.

        Where no key names the rows, a table with few different rows has many that agree. How many, its own files tell: how likely
        two rows of one file agree, with what the count of such pairs leaves open. The files that repeat themselves most are not
        asked, because one that was written twice agrees with itself.
        """
        agree = np.bincount(self.file, self.count * (self.count - 1), len(self.parts)) / 2
        pairs = np.maximum(self.sizes * (np.asarray(rows) - 1), 1) / 2
        asked = np.argsort(agree / pairs, kind="stable")[: math.ceil(len(pairs) * _ASKED)]
        seen = float(agree[asked].sum())
        likely = (seen + _NOISE * math.sqrt(seen) + _UNSEEN) / float(pairs[asked].sum())
        shares = np.minimum((sum(rows) - np.asarray(rows)) * likely, 1.0)
        return shares + _error(shares, self.sizes)


def _usual(shares: Floats, sampled: Floats) -> Floats:
    """Return up to where each file's share is no news among all of them, as exactly as its sample tells."""
    ends = (
        float(np.median(shares)) + _SCATTER * robust_spread(shares.tolist()),
        np.quantile(shares, _RANGE, method="lower"),
    )
    return max(ends) + _error(shares, sampled)


def _error(shares: Floats, sampled: Floats) -> Floats:
    """Return how far shares of so many rows may lie off by chance."""
    error: Floats = _NOISE * np.sqrt(shares * (1 - shares) / np.maximum(sampled, 1))
    return error


def duplicates(parts: Sequence[Part], fresh: frozenset[date], checks: WindowChecks) -> list[Finding]:
    """Find rows that come again in another partition, or in their own; a warning is given for fresh days only."""
    check, sample = checks.duplicates, _Sample(parts)
    if check.action == "off" or not sample.parts:
        return []
    files = len(np.unique(sample.file))
    across = sample.shares(np.bincount(sample.row)[sample.row] > 1) if files > 1 else np.zeros(len(sample.parts))
    within = sample.repeated()
    rows = [part.summary.rows for part in sample.parts]
    by_chance = np.zeros(len(rows)) if checks.key else np.minimum(sample.chance(rows), _usual(across, sample.sizes))
    looked_at = [check.action != "warn" or part.summary.day in fresh for part in sample.parts]
    found = []
    shared = [i for i, part in enumerate(sample.parts) if looked_at[i] and across[i] > check.share + by_chance[i]]
    if shared:
        found.append(_shared(sample, across, shared, checks))
    enough = len(within) > checks.min_history
    allowed = np.zeros(len(rows)) if checks.key else _usual(within, sample.sizes) if enough else np.ones(len(rows))
    twice = [
        i
        for i in range(len(within))
        if looked_at[i] and (within[i] > check.share + allowed[i] or (within[i] > check.share and sample.times(i) > 1))
    ]
    if twice:
        found.append(_repeated(sample, within, twice, checks))
    return found


def _shared(sample: _Sample, across: Floats, shared: Sequence[int], checks: WindowChecks) -> Finding:
    worst = max(shared, key=lambda i: (across[i], sample.parts[i].summary.day, sample.parts[i].key))
    other = sample.partner(worst, np.ones(len(sample.parts), bool))
    by = f"by {', '.join(checks.key)}" if checks.key else "in every column"
    words = (
        f"{across[worst]:.1%} of the rows of {_named(sample, worst)} come again in other partitions, {by}; most of them in "
        f"{_named(sample, other)}{_more(len(shared))}. Remove what landed twice, or name the columns that tell rows apart in "
        "validation.window.key"
    )
    return Finding(
        kind="duplicates",
        action=acting(checks.duplicates.action),
        subject=str(sample.parts[worst].summary.day),
        words=words,
        value=float(across[worst]),
        limit=checks.duplicates.share,
    )


def _repeated(sample: _Sample, within: Floats, twice: Sequence[int], checks: WindowChecks) -> Finding:
    worst = max(twice, key=lambda i: (within[i], sample.parts[i].summary.day, sample.parts[i].key))
    times = sample.times(worst)
    by = f"by {', '.join(checks.key)}" if checks.key else "in every column"
    what = (
        f"every row comes {times} times, {by}"
        if times > 1
        else f"{within[worst]:.1%} of the rows repeat another one, {by}"
    )
    words = (
        f"in {_named(sample, worst)} {what}{_more(len(twice))}. Land each row once, or name the columns that tell rows apart in "
        "validation.window.key"
    )
    return Finding(
        kind="duplicates",
        action=acting(checks.duplicates.action),
        subject=f"within {sample.parts[worst].summary.day}",
        words=words,
        value=float(within[worst]),
        limit=checks.duplicates.share,
    )


def _named(sample: _Sample, file: int) -> str:
    part = sample.parts[file]
    return part.key if str(part.summary.day) in part.key else f"{part.key} ({part.summary.day})"


def _more(count: int) -> str:
    return "" if count == 1 else f" ({count - 1} more partition{'s' if count > 2 else ''} like it)"  # noqa: PLR2004


def overlap(parts: Sequence[Part], days: Windows, checks: WindowChecks) -> list[Finding]:
    """Find rows of the hold-out that also stand in training."""
    check, sample = checks.overlap, _Sample(parts)
    held = np.asarray([part.summary.day >= days.holdout.first for part in sample.parts], bool)
    if check.action == "off" or held.all() or not held.any():
        return []
    trained = np.zeros(int(sample.row.max()) + 1, bool)
    trained[sample.row[~held[sample.file]]] = True
    shares = sample.shares(trained[sample.row])
    rows = np.asarray([part.summary.rows for part in sample.parts])
    share = float(np.average(shares[held], weights=rows[held]))
    allowed = check.share
    if not checks.key:  # how much training itself repeats its past is no news, as far as chance can explain it
        among = sample.shares((np.bincount(sample.row[~held[sample.file]], minlength=len(trained)) > 1)[sample.row])
        allowed += min(
            float(sample.chance(rows.tolist())[held].mean()), _usual(among[~held], sample.sizes[~held]).mean()
        )
    if share <= allowed:
        return []
    worst = int(np.flatnonzero(held)[shares[held].argmax()])
    by = f"by {', '.join(checks.key)}" if checks.key else "in every column"
    words = (
        f"{share:.1%} of the rows of the hold-out ({days.holdout}) also stand in training, {by}; most of them in "
        f"{_named(sample, worst)}, and before that in {_named(sample, sample.partner(worst, ~held))}. "
        "A model is judged by what it has not seen: remove what landed twice. Where such rows are different ones, name the columns "
        "that tell them apart in validation.window.key, or turn validation.window.overlap off"
    )
    return [
        Finding(
            kind="overlap",
            action=acting(check.action),
            subject=str(days.holdout),
            words=words,
            value=share,
            limit=check.share,
        )
    ]
