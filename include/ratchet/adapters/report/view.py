"""What the page shows, as rows and numbers: the night's record rearranged, nothing decided anew."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from ratchet.domain.gates import METRICS, BoundGate
from ratchet.domain.night import STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.checks import Check
    from ratchet.domain.ledger import Champion, LedgerEntry
    from ratchet.domain.models import ModelVersion
    from ratchet.domain.night import Night
    from ratchet.spec import Pipeline

LOWER_IS_BETTER = {"log_loss", "brier", "rmse", "mae", "pinball", "quantile_error", "width"}
_NEITHER = (
    "alert_rate",
    "coverage",
    "below_",
    "business.",
)  # beginnings of names of which more is not better, or nobody can know
_SLICES = 40  # rows of a slice's table, the largest
_COLUMNS = 4  # metrics of it


class Compared(NamedTuple):
    """One metric of both models."""

    name: str
    challenger: float | None
    champion: float | None
    difference: float | None
    better: bool | None  # None: the same, or not to be compared
    hint: str  # which way is better
    ours: tuple[float, float] | None = None  # 95 % intervals
    theirs: tuple[float, float] | None = None
    reach: tuple[float, float] | None = None  # of the difference

    @property
    def open(self) -> bool:
        """Whether the difference may be chance: its interval holds 0."""
        return self.reach is not None and self.reach[0] <= 0 <= self.reach[1]


class SliceRow(NamedTuple):
    """One value of a slice column."""

    value: str
    rows: int
    metrics: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...]  # of each


class SliceTable(NamedTuple):
    """One slice column."""

    column: str
    names: tuple[str, ...]
    rows: tuple[SliceRow, ...]
    left_out: int


class Part(NamedTuple):
    """A share of a whole."""

    name: str
    style: str
    size: float
    said: str


class Throne(NamedTuple):
    """Who served before and who serves after; ``since`` is a newer entry than this night's."""

    before: Champion | ModelVersion | None
    after: Champion | None
    since: LedgerEntry | None


def throne(night: Night, ledger: Sequence[LedgerEntry]) -> Throne:
    """Find the champions before and after the night."""
    entry = night.promote.entry if night.promote and night.promote.promoted else None
    after = next((e for e in ledger if e.seq == entry), ledger[-1] if ledger else None)
    before: Champion | ModelVersion | None = after.champion if after and entry is None else None
    if night.score:
        before = night.score.champion
    since = ledger[-1] if after and ledger[-1].seq > after.seq else None
    return Throne(before, after.champion if after else None, since)


def checks(night: Night, pipeline: Pipeline) -> tuple[Check | str, ...]:
    """Return the checks, or the names of the gates that were never reached."""
    return night.gate.verdict.checks if night.gate else tuple(gate.name for gate in pipeline.spec.gates)


def compared(night: Night) -> tuple[Compared, ...]:
    """Compare the metrics; a difference is given only where both models were measured on the same rows."""
    found = night.evaluate
    if not found:
        return ()
    same = found.champion is not None and found.common_rows == found.rows
    rows = []
    for name, ours in found.challenger.items():
        theirs = (found.champion or {}).get(name)
        pair, reach = (ours, theirs) if same else (None, None), None
        if name in found.differences:
            paired = found.differences[name]
            pair = paired.challenger, paired.champion
            reach = (paired.low, paired.high) if paired.low is not None and paired.high is not None else None
        difference, better = _gained(name, *pair)
        intervals = found.case.intervals
        hint = "→ 1" if name == "calibration" else "↓" if name in LOWER_IS_BETTER else "↑"
        hint = "" if name.startswith(_NEITHER) else hint
        rows.append(
            Compared(
                name,
                ours,
                theirs,
                difference,
                better,
                hint,
                intervals.get(name),
                intervals.get(f"champion.{name}"),
                reach,
            )
        )
    return tuple(rows)


def _gained(name: str, ours: float | None, theirs: float | None) -> tuple[float | None, bool | None]:
    """Return challenger − champion, and whether that is better."""
    if ours is None or theirs is None or not (_finite(ours) and _finite(theirs)):
        return None, None
    gain = abs(theirs - 1) - abs(ours - 1) if name == "calibration" else ours - theirs
    gain = -gain if name in LOWER_IS_BETTER else gain
    return ours - theirs, gain > 0 if gain and not name.startswith(_NEITHER) else None


def _finite(value: float | None) -> bool:
    return value is not None and isfinite(value)


def slices(night: Night, pipeline: Pipeline) -> tuple[SliceTable, ...]:
    """Return a table for each slice column, its largest values first."""
    by_column: dict[str, dict[str, dict[str, tuple[float | None, int]]]] = {}
    for key, metric in night.evaluate.case.metrics.items() if night.evaluate else ():
        name, bracket, place = key.partition("[")
        if bracket:
            column, _, value = place[:-1].partition("=")
            by_column.setdefault(column, {}).setdefault(value, {})[name] = (metric.value, metric.rows)
    gated = [g.metric for g in pipeline.spec.gates if isinstance(g, BoundGate)]
    intervals = night.evaluate.case.intervals if night.evaluate else {}
    tables = []
    for column, values in by_column.items():
        known = dict.fromkeys(name for metrics in values.values() for name in metrics)
        names = tuple(
            dict.fromkeys(
                [*(n for n in gated if n in known), *(n for n in METRICS[pipeline.spec.target.task] if n in known)]
            )
        )[:_COLUMNS]
        rows = [
            SliceRow(
                value,
                max(n for _, n in metrics.values()),
                tuple(metrics.get(n, (None, 0))[0] for n in names),
                tuple(intervals.get(f"{n}[{column}={value}]") for n in names),
            )
            for value, metrics in values.items()
        ]
        rows.sort(key=lambda row: (-row.rows, row.value))
        tables.append(SliceTable(column, names, tuple(rows[:_SLICES]), len(rows[_SLICES:])))
    return tuple(tables)


_ACCOUNT = {
    "fitted": ("fitted on", "fit", "the trees were grown on these"),
    "watched": ("early stopping", "watch", "days after those fitted on"),
    "held_out": ("hold-out", "hold", "never fitted on; both models are compared here"),
    "unlabelled": ("unlabelled", "other", "the target is NULL"),
    "dropped": ("dropped", "dim", "the features query left them out"),
    "outside": ("outside the window", "dim", "dated by their column to another day"),
    "quarantined_rows": ("rows in quarantine", "bad", "broke a critical expectation, one by one"),
    "quarantined_partitions": ("in partitions in quarantine", "bad", "their partition broke a critical expectation"),
}


def accounting(night: Night) -> tuple[Part, ...]:
    """Split the landed rows by what became of them; the parts add up to what has landed, as far as the night came."""
    if not night.snapshot:
        return ()
    if night.train and night.train.account:
        sizes = night.train.account.parts
        parts = [Part(name, style, sizes[part], said) for part, (name, style, said) in _ACCOUNT.items()]
    elif night.validate_:
        left_out = night.snapshot.rows - night.validate_.rows
        parts = [
            Part("validated", "fit", night.validate_.rows, "the night ended before they were used"),
            Part("in quarantine", "bad", left_out, "broke a critical expectation"),
        ]
    else:
        parts = [Part("landed", "fit", night.snapshot.rows, "the night ended before they were validated")]
    return tuple(part for part in parts if part.size)


def timeline(night: Night) -> tuple[tuple[str, float | None, bool], ...]:
    """Return each step's name, seconds (None: it did not run) and whether the night ended in it."""
    ended = night.ended.step if night.ended else None
    return tuple(
        (step, night.seconds.get(step), step == ended) for step in STEPS if step != "report" or step in night.seconds
    )


def watched_metric(pipeline: Pipeline) -> str:
    """Return the metric that the page follows from night to night: the first that a gate bounds."""
    bounded = [g.metric for g in pipeline.spec.gates if isinstance(g, BoundGate)]
    return bounded[0] if bounded else METRICS[pipeline.spec.target.task][0]


def number(value: float | None, *, signed: bool = False) -> str:
    """Write a number for people: as many digits as say something, a real minus sign."""
    if value is None:
        return "–"
    if not isfinite(value):
        return "not a number" if value != value else f"{'+' if value > 0 else '−'}∞"  # noqa: PLR0124  NaN
    size = abs(value)
    if size and (size < 1e-4 or size >= 1e7):  # noqa: PLR2004  too long to be written out
        text = f"{size:.2e}"
    elif size == int(size) and not signed:
        text = f"{size:,.0f}"
    else:
        text = f"{size:,.{4 if size < 10 else 2 if size < 1000 else 0}f}"  # noqa: PLR2004  four significant digits
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return sign + text


def count(n: int, what: str) -> str:
    """Write how many of a thing there are."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def bytes_(value: float) -> str:
    """Write a size in bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004  the next unit
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"  # noqa: PLR2004
        value /= 1000
    return f"{value:.1f} TB"
