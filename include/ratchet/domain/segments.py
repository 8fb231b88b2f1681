"""Segments: one model for each value of a column, each known by a name of its own, and what became of all of them in a night.

A segment's name is its pipeline's, two hyphens, and a slug of its value: ``flights--ewr-2f0c9a71d3``. No pipeline has a hyphen in its
name, so none can be taken for a segment. The slug follows from the value alone and says which it is: a value that is
a plain lower-case word is its own slug, any other gets what can be read of it and a part of its sha256.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from typing import Literal

from ratchet.domain.models import ModelVersion
from ratchet.domain.records import Record, sha256

BETWEEN = "--"  # pipeline and slug
SLUG = r"[a-z0-9][a-z0-9_]{0,39}(-[0-9a-f]{10})?"
NAME = rf"[a-z][a-z0-9_]{{0,62}}({BETWEEN}{SLUG})?"  # of a pipeline, or of one of its segments
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")
_READABLE = 24  # characters
_HASH = 10  # characters
_LONGEST = 60  # characters of a value that are shown

SegmentOutcome = Literal["promoted", "refused", "undecided", "skipped", "rejected", "failed"]


def slug_of(value: str) -> str:
    """Return the slug of a value: the same on every machine, and of two values never the same."""
    if _PLAIN.fullmatch(value):
        return value
    letters = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "_", letters).strip("_")[:_READABLE].strip("_")
    return f"{readable or 'x'}-{sha256(value.encode('utf-8', 'surrogatepass'))[:_HASH]}"


def name_of(pipeline: str, slug: str) -> str:
    """Return the name of a segment's model; without a slug that of the pipeline itself."""
    return f"{pipeline}{BETWEEN}{slug}" if slug else pipeline


def split(name: str) -> tuple[str, str]:
    """Return the pipeline and the slug that a name stands for; a pipeline's own has no slug."""
    pipeline, _, slug = name.partition(BETWEEN)
    return pipeline, slug


def parent_of(name: str) -> str:
    """Return the pipeline whose data a model learns from."""
    return split(name)[0]


class Segment(Record):
    """One value of the column, and how many labelled rows of the window have it."""

    value: str
    slug: str
    rows: int
    to_fit: int = 0  # of these, on the days that are fitted on
    without: str = ""  # why it gets no model of its own tonight


class SegmentPlan(Record):
    """All segments of a night, those of most rows first."""

    by: str  # the column
    rows: int  # labelled rows of the window
    of_none: int  # of these, without a value
    segments: tuple[Segment, ...]

    @property
    def fitted(self) -> tuple[Segment, ...]:
        """The segments that get a night of their own."""
        return tuple(segment for segment in self.segments if not segment.without)

    @property
    def missing(self) -> int:
        """Rows that are found in no segment, and not among those without a value; below zero where some count twice."""
        return self.rows - self.of_none - sum(segment.rows for segment in self.segments)


class SegmentNight(Record):
    """How one segment's night came out."""

    value: str
    slug: str
    outcome: SegmentOutcome
    reason: str = ""
    version: int | None = None  # that it made
    champion: int | None = None  # its own, that serves after it
    turned: ModelVersion | None = None  # who became its champion, in this attempt or in an earlier one
    appended: bool = False  # in this one
    entry: int | None = None  # of its ledger, by which
    back: ModelVersion | None = None  # who serves again by a rollback tonight, in this attempt or in an earlier one
    back_entry: int | None = None  # of its ledger, by which
    page: str = ""  # key of its report
    seconds: float = 0.0


class SegmentStanding(Record):
    """Who serves one segment after a night, and why."""

    value: str
    slug: str
    rows: int
    champion: int | None = None  # version of its own; None: the global champion serves it
    why: str = ""  # it has none of its own
    outcome: SegmentOutcome | None = None  # None: it had no night
    reason: str = ""
    version: int | None = None  # that its night made
    page: str = ""
    seconds: float = 0.0

    @property
    def serves(self) -> Literal["own", "global"]:
        """Whose champion serves it."""
        return "global" if self.champion is None else "own"


class SegmentsResult(Record):
    """What became of all segments in a night."""

    pipeline: str
    cutoff: date
    run_key: str
    by: str
    rows: int  # labelled rows of the window
    of_none: int  # of these, without a value: the global champion serves them
    champion: int | None = None  # the global one; None: there is none
    dry_run: bool = False
    segments: tuple[SegmentStanding, ...] = ()

    @property
    def own(self) -> int:
        """How many are served by a champion of their own."""
        return sum(segment.champion is not None for segment in self.segments)

    @property
    def failed(self) -> tuple[SegmentStanding, ...]:
        """Those whose night went wrong; it blocked no other."""
        return tuple(segment for segment in self.segments if segment.outcome in {"failed", "rejected"})

    @property
    def words(self) -> str:
        """Say in a line how it went."""
        count = dict.fromkeys(("promoted", "undecided", "refused", "skipped", "rejected", "failed"), 0)
        for segment in self.segments:
            if segment.outcome:
                count[segment.outcome] += 1
        told = ", ".join(f"{number} {outcome}" for outcome, number in count.items() if number) or "none had a night"
        said = (
            f"{len(self.segments)} segments by {self.by}: {self.own} served by a champion of their own; tonight {told}"
        )
        named = "; ".join(f"{visible(segment.value)}: {segment.reason}" for segment in self.failed)
        return f"{said}. Went wrong: {named}" if named else said


def standing(segment: Segment, night: SegmentNight | None, before: int | None) -> SegmentStanding:
    """Return who serves a segment.

    Args:
        segment: the segment.
        night: how its night came out; None: it had none, or ended without a word.
        before: its own champion where no night tells of it.
    """
    facts = {"value": segment.value, "slug": segment.slug, "rows": segment.rows}
    if segment.without:
        stays = f"{segment.without}; its champion of an earlier night stays" if before else segment.without
        return SegmentStanding(**facts, champion=before, why=stays)
    if night is None:
        lost = "ended without a word (killed, timed out or marked by hand); see its log"
        return SegmentStanding(**facts, champion=before, why="" if before else lost, outcome="failed", reason=lost)
    serves = night.champion or before
    why = "" if serves else f"no model of its own has passed its gates yet: {night.outcome} tonight"
    return SegmentStanding(
        **facts,
        champion=serves,
        why=why,
        outcome=night.outcome,
        reason=night.reason,
        version=night.version,
        page=night.page,
        seconds=night.seconds,
    )


def chunked(segments: int, most: int, each: int) -> list[list[int]]:
    """Share segments out among tasks, in order, and return where those of each begin and end: so many in each, and more where there would be too many tasks."""
    size = max(each, -(-segments // most))
    return [[start, min(start + size, segments)] for start in range(0, segments, size)]


def visible(value: str) -> str:
    """Return a value as lines of progress and lists show it: quoted where it has no visible character, cut where it is endless."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)
    if not value.strip():
        return repr(value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
