"""The plots of tasks that predict values: one, or quantiles of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ratchet.adapters.report.sides import DAYS, Side, calibration, central, distribution, keys, named
from ratchet.adapters.report.svg import Figure, Plot, axis, day_axis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.domain.measuring import Measuring


def regression(models: tuple[Side, ...]) -> Iterator[Figure]:
    """Draw what one value a row is like."""
    yield _density(models[-1])
    yield _residuals(models)
    yield calibration(
        "Calibration", models, ("mean prediction", "mean actual value"), "ten groups of as many rows, by prediction"
    )
    yield distribution("Residuals", "actual − predicted", tuple((o.name, o.name, o.y - o.p) for o in models))


def quantile(models: tuple[Side, ...], how: Measuring) -> Iterator[Figure]:
    """Draw how often each quantile held, what the outer two enclose, and the middle one as a single value."""
    fitting = [m for m in models if m.p.shape[1] == len(how.quantiles)]
    if not fitting:
        return
    yield _shares(fitting, how)
    if len(how.quantiles) > 1:
        yield _coverage(fitting, how)
        widths = tuple((m.name, m.name, m.p[:, -1] - m.p[:, 0]) for m in fitting)
        yield distribution("Width of the predicted range", "largest − smallest quantile", widths)
    middle = tuple(m._replace(p=m.p[:, how.middle]) for m in fitting)
    yield _density(middle[-1])
    yield _residuals(middle)


def _shares(models: list[Side], how: Measuring) -> Figure:
    plot = Plot(named("quantile"), named("share of labels below it"))
    plot.line((0, 1), (0, 1), "ref")
    for m in models:
        below = (m.y[:, None] <= m.p).mean(axis=0).tolist()
        plot.line(how.quantiles, below, m.name)
        for alpha, share in zip(how.quantiles, below, strict=True):
            plot.dot(
                alpha, share, m.name, f"{m.name}: {share:.1%} of {len(m.y):,} labels are at most quantile {alpha:g}"
            )
    note = "on the dashed line each quantile is what it says"
    return Figure(
        "Calibration of the quantiles",
        plot.svg("Labels below each quantile"),
        keys((m.name, m.name) for m in models),
        note,
    )


def _coverage(models: list[Side], how: Measuring) -> Figure:
    days = np.unique(models[-1].days)[-DAYS:]
    promised = how.quantiles[-1] - how.quantiles[0]
    plot = Plot(day_axis([str(d) for d in days]), named("share of labels inside"))
    plot.line((0, len(days)), (promised, promised), "ref")
    for m in models:
        inside = (m.p[:, 0] <= m.y) & (m.y <= m.p[:, -1])
        points = [(i + 0.5, float(inside[m.days == d].mean()), d) for i, d in enumerate(days) if (m.days == d).any()]
        plot.line([x for x, _, _ in points], [share for _, share, _ in points], m.name)
        for x, share, day in points:
            plot.dot(x, share, m.name, f"{day}: {share:.1%} of {m.name}’s ranges hold the label")
    note = f"the range from quantile {how.quantiles[0]:g} to {how.quantiles[-1]:g} should hold {promised:.0%}, the dashed line"
    return Figure(
        "Coverage by day",
        plot.svg("Share of labels within the predicted range, by day"),
        keys((m.name, m.name) for m in models),
        note,
    )


def _density(m: Side) -> Figure:
    low, high = central(np.concatenate([m.y, m.p]))
    both = axis(low, high)
    plot = Plot(both._replace(label="predicted"), both._replace(label="actual"))
    counts, xs, ys = np.histogram2d(m.p, m.y, bins=32, range=((both.low, both.high), (both.low, both.high)))
    most = np.log1p(counts.max() or 1.0)
    for i, j in np.argwhere(counts > 0):
        plot.box(
            xs[i],
            xs[i + 1],
            ys[j],
            ys[j + 1],
            m.name,
            f"{counts[i, j]:,.0f} rows",
            float(0.12 + 0.88 * np.log1p(counts[i, j]) / most),
        )
    plot.line((both.low, both.high), (both.low, both.high), "ref")
    return Figure(
        "Predicted and actual",
        plot.svg("Density of actual over predicted values"),
        (),
        "stronger: more rows; the dashed line is perfect",
    )


def _residuals(models: tuple[Side, ...]) -> Figure:
    m = models[-1]
    days = np.unique(m.days)[-DAYS:]
    spreads = [np.quantile((m.y - m.p)[m.days == d], (0.1, 0.25, 0.5, 0.75, 0.9)) for d in days]
    y = axis(min(float(s[0]) for s in spreads), max(float(s[4]) for s in spreads), "actual − predicted")
    plot = Plot(day_axis([str(d) for d in days]), y)
    plot.line((0, len(days)), (0, 0), "ref")
    for i, (day, s) in enumerate(zip(days, spreads, strict=True)):
        said = f"{day}: median {s[2]:+.4g}, half of the rows {s[1]:+.4g} … {s[3]:+.4g}, 80 % {s[0]:+.4g} … {s[4]:+.4g}"
        plot.box(i + 0.47, i + 0.53, s[0], s[4], m.name, said, 0.5)
        plot.box(i + 0.25, i + 0.75, s[1], s[3], m.name, said, 0.6)
        plot.dot(i + 0.5, float(s[2]), m.name, said, radius=2.5)
    for o in models[:-1]:
        for i, day in enumerate(days):
            here = o.days == day
            if here.any():
                plot.dot(
                    i + 0.5, float(np.median((o.y - o.p)[here])), o.name, f"{day}: the champion's median", radius=2.5
                )
    return Figure(
        "Residuals by day",
        plot.svg("Residuals of each day"),
        keys((o.name, o.name) for o in models),
        "median, half and 80 % of the rows",
    )
