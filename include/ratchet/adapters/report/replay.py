"""The page of a replay: what each policy would have cost, month by month and in total, and what each decision was worth."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from ratchet.adapters.report.page import environment
from ratchet.adapters.report.svg import Axis, Figure, Plot, axis
from ratchet.adapters.report.view import number
from ratchet.domain.policies import BY_DAY, BY_NIGHT, NEVER, NEWEST, THIS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratchet.domain.policies import Figures, PolicyDay, PolicyName, Replayed
    from ratchet.spec import Pipeline

STYLES: dict[PolicyName, str] = {
    THIS: "challenger",
    NEVER: "champion",
    NEWEST: "hold",
    BY_NIGHT: "fit",
    BY_DAY: "watch",
}
MEANING: dict[PolicyName, str] = {
    THIS: "the champion as these gates chose it, night by night",
    NEVER: "the first champion, for good",
    NEWEST: "each night's challenger, whatever was said of it",
    BY_NIGHT: "for the days between two nights, the best version that there was: no gate could do better",
    BY_DAY: "for each day the best version that there was before it; luck included, so nobody can reach it",
}
_LISTED = 200  # rows of a table
_TICKS = 12  # of an axis of months


class _Change(NamedTuple):
    """A change of champion, by its place among the days."""

    at: int
    said: str


def page(found: Replayed, pipeline: Pipeline) -> bytes:
    """Render one self-contained HTML page."""
    html = (
        environment()
        .get_template("replay.html")
        .render(
            found=found,
            spec=pipeline.spec,
            figures=tuple(_figures(found)),
            styles=STYLES,
            meaning=MEANING,
            changes=[t for t in found.turns if t.action][:_LISTED],
            held=[t for t in found.turns if not t.action],
            wrong=found.false_refusals[:_LISTED],
            counts={
                o: sum(n.outcome == o for n in found.nights) for o in dict.fromkeys(n.outcome for n in found.nights)
            },
        )
    )
    return html.encode(errors="replace")


def _figures(found: Replayed) -> Iterator[Figure]:
    if found.total is None:
        return
    yield _by_month(found, f"{found.loss} by month", lambda f: f.loss, "lower is better")
    yield _against_never(found)
    if all(f.metric is not None for month in found.months for f in month.policies.values()):
        yield _by_month(found, f"{found.metric} by month", lambda f: f.metric or 0.0, "over all rows of the month")


def _by_month(found: Replayed, title: str, value: Callable[[Figures], float], note: str) -> Figure:
    values = [value(f) for month in found.months for f in month.policies.values()]
    every = -(-len(found.months) // _TICKS)
    ticks = tuple((i + 0.5, _month(month.name)) for i, month in enumerate(found.months) if i % every == 0)
    plot = Plot(Axis(0, len(found.months), ticks), axis(min(values), max(values)))
    for name, style in reversed(STYLES.items()):
        xs = [i + 0.5 for i in range(len(found.months))]
        ys = [value(month.policies[name]) for month in found.months]
        plot.line(xs, ys, style)
        for x, y, month in zip(xs, ys, found.months, strict=True):
            plot.dot(x, y, style, f"{month.name}, {name}: {number(y)} over {month.rows:,} rows", radius=2.5)
    return Figure(title, plot.svg(f"{title}, for every policy"), tuple((s, n) for n, s in STYLES.items()), note)


def _month(name: str) -> str:
    """Write a month for an axis: its number, and the year where one begins."""
    year, _, month = name.partition("-")
    return year if month == "01" else month


def _against_never(found: Replayed) -> Figure:
    """Draw the loss that each policy has saved against never retraining, summed over rows, and when the champion changed."""
    saved = {name: list(accumulate(_saved(day, name) for day in found.days)) for name in STYLES if name != NEVER}
    values = [0.0, *(v for line in saved.values() for v in line)]
    every = max(1, len(found.days) // 5)
    ticks = tuple((i + 0.5, str(day.day)[5:]) for i, day in enumerate(found.days) if i % every == 0)
    plot = Plot(
        Axis(0, max(len(found.days), 1), ticks), axis(min(values), max(values), f"{found.loss} saved, summed"), left=64
    )
    plot.line((0, len(found.days)), (0, 0), "zero")
    for name, line in reversed(saved.items()):
        plot.line([i + 0.5 for i in range(len(line))], line, STYLES[name])
    for change in _changes(found):
        plot.dot(change.at + 0.5, saved[THIS][change.at], "challenger", change.said, radius=3.5)
    keys = tuple((STYLES[name], f"{name}: {number(line[-1], signed=True)}") for name, line in saved.items())
    note = "above zero it did better than the first champion would have; a dot: the champion changed"
    return Figure(
        f"{found.loss} saved against never retraining", plot.svg("Loss saved since the first champion"), keys, note
    )


def _saved(day: PolicyDay, name: PolicyName) -> float:
    return day.rows * (day.losses[NEVER] - day.losses[name])


def _changes(found: Replayed) -> Iterator[_Change]:
    for turn in found.turns:
        at = next((i for i, day in enumerate(found.days) if day.day > turn.cutoff), None)
        if turn.action and at is not None:
            yield _Change(at, f"{turn.cutoff}: {turn.action}, version {turn.version} after version {turn.rival}")
