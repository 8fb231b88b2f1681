"""The plots of drift: a heat map of how far each subject lay off on the last days, and what has moved, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.adapters.report.svg import Axis, Figure, Plot, axis, day_axis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.domain.drifted import DriftResult, SubjectDrift

_SUBJECTS = 16  # rows of the heat map
_MOVED = 4  # subjects of which before and after are drawn
_BINS = 12  # of a subject, those that have moved most where it has more
_NAME = 12  # characters of a label


def figures(found: DriftResult | None) -> Iterator[Figure]:
    """Draw what there is to draw."""
    if found is None or not found.heat_days:
        return
    yield _heat(found)
    for subject in found.subjects[:_MOVED]:
        if subject.bins:
            yield _moved(subject)


def _heat(found: DriftResult) -> Figure:
    subjects, days = list(found.heat)[:_SUBJECTS], [str(day) for day in found.heat_days]
    rows = len(subjects)
    names = tuple((i + 0.5, _short(_plain(subject))) for i, subject in enumerate(subjects))
    plot = Plot(day_axis(days), Axis(rows, 0, names), height=46 + 15.0 * rows, left=92, grid=False)
    for i, subject in enumerate(subjects):
        for j, value in enumerate(found.heat[subject]):
            if value is None:
                continue
            said = f"{days[j]}, {_plain(subject)}: {value:.0%} of the limit"
            hot = value > 1
            plot.box(
                j + 0.04, j + 0.96, i + 0.06, i + 0.94, "bad" if hot else "other", said,
                1.0 if hot else max(0.05, 0.6 * min(value, 1.0)),
            )  # fmt: skip
    note = (
        f"how far a day lies from others, against what {found.history} past days allow; grey below the limit, red above"
    )
    return Figure("Drift by day", plot.svg("How far each subject lay off on the last days"), (), note)


def _moved(subject: SubjectDrift) -> Figure:
    """Draw shares before and after, side by side."""
    moves = sorted(range(len(subject.bins)), key=lambda i: -abs(subject.after[i] - subject.before[i]))[:_BINS]
    shown = sorted(moves)
    most = max((max(subject.before[i], subject.after[i]) for i in shown), default=1.0) or 1.0
    labels = tuple((k + 0.5, _short(subject.bins[i])) for k, i in enumerate(shown))
    plot = Plot(
        axis(0.0, most, "share of rows", wanted=4), Axis(len(shown), 0, labels), height=60 + 17.0 * len(shown), left=92
    )
    for k, i in enumerate(shown):
        for style, value, top in (("other", subject.before[i], 0.12), ("challenger", subject.after[i], 0.5)):
            plot.box(0, value, k + top, k + top + 0.36, style, f"{subject.bins[i]}: {value:.1%}")
    before = "what the champion was trained on" if subject.against == "training" else "the days before"
    now = "the newest day" if subject.days == 1 else f"the newest {subject.days} days"
    more = f"; the {_BINS} of {len(subject.bins)} that have moved most" if len(subject.bins) > _BINS else ""
    note = f"population stability index {subject.psi:.2f}, up to {subject.usual:.2f} is usual{more}"
    title = f"{_plain(subject.subject)}{' has drifted' if subject.drifted else ''}"
    return Figure(
        title, plot.svg(f"{_plain(subject.subject)} before and now"), (("other", before), ("challenger", now)), note
    )


def _plain(subject: str) -> str:
    return subject.removeprefix("feature ")


def _short(words: str) -> str:
    return words if len(words) <= _NAME else words[: _NAME - 1] + "…"
