"""What a night tells of drift."""

from __future__ import annotations

from datetime import date
from typing import Literal

from ratchet.domain.findings import Finding
from ratchet.domain.records import Record

Against = Literal["training", "previous"]
APART = 7  # days: what is seen again within so many is one episode


class SubjectDrift(Record):
    """One feature, the label or the predictions, against days before."""

    subject: str
    against: Against
    days: int  # the newest so many, together
    psi: float  # population stability index
    js: float  # Jensen–Shannon divergence, bits
    ks: float | None = None  # Kolmogorov–Smirnov distance, of numbers
    wasserstein: float | None = None  # in units of the number
    usual: float  # the index that nine in ten past days stayed below
    score: float  # the distance in units of what is usual for it, the least of the nights that are asked for
    drifted: bool
    bins: tuple[str, ...] = ()
    before: tuple[float, ...] = ()  # shares
    after: tuple[float, ...] = ()


class DriftResult(Record):
    """What the newest day was like."""

    state: Literal["off", "unknown", "too_short", "quiet", "drift"]
    words: str
    day: date | None = None
    champion: int | None = None  # version
    history: int = 0  # past days that tonight is ranked among
    needed: int = 0  # so many keep the budget
    score: float | None = None  # of the subject that has moved most
    limit: float | None = None  # the level that the past has crossed as often as the budget allows
    rank: float | None = None  # share of past days, tonight among them, that lay as far off
    since: date | None = None  # the first day of this episode
    subjects: tuple[SubjectDrift, ...] = ()  # those that have moved most, furthest first
    heat_days: tuple[date, ...] = ()
    heat: dict[str, tuple[float | None, ...]] = {}  # by subject: how far each day lay off, in units of the limit
    findings: tuple[Finding, ...] = ()
