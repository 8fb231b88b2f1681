"""Champion and challenger on the hold-out, as arrays that plots are drawn from, and what plots of all tasks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ratchet.adapters.report.svg import Axis, Figure, Plot, axis, day_axis
from ratchet.domain.losses import daily_losses
from ratchet.domain.statistics import lower_and_upper

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from ratchet.domain.gates import Loss
    from ratchet.domain.measuring import Measuring

    Floats = np.ndarray[Any, np.dtype[np.float64]]

POINTS = 200  # of a curve
DAYS = 31
_BINS = 10  # of a calibration curve, each with as many rows
_STRIP = 0.16  # of a plot's height, for how many rows there are
_UNIT = axis(0.0, 1.0)


class Side(NamedTuple):
    """One model on the rows that it was scored on."""

    name: str  # challenger or champion, the CSS class too
    days: Any
    y: Floats
    p: Floats  # (n,), (n, classes) or (n, quantiles)
    lists: Any = None  # of a ranking, in which list each row stands


def sides(predictions: pa.Table | None, how: Measuring) -> tuple[Side, ...]:
    """Return the models that have finite predictions, the champion first, so that the challenger is drawn over it."""
    found = []
    for name in ("champion", "challenger") if predictions is not None else ():
        if predictions is None or name not in predictions.column_names:
            continue
        rows = predictions.filter(predictions[name].is_valid())
        if not rows.num_rows:
            continue
        y = rows["label"].to_numpy().astype(np.float64)
        p = rows[name].combine_chunks()
        if how.task in {"multiclass", "quantile"}:
            values = p.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
            p = values.reshape(rows.num_rows, -1)
        else:
            p = p.to_numpy(zero_copy_only=False).astype(np.float64)
        good = np.isfinite(y) & (np.isfinite(p) if p.ndim == 1 else np.isfinite(p).all(axis=1))
        if how.task in {"binary", "ranking"}:
            good &= y >= 0
        if good.any():
            lists = rows["list"].to_numpy()[good] if "list" in rows.column_names else None
            found.append(Side(name, rows["dt"].to_numpy().astype("datetime64[D]")[good], y[good], p[good], lists))
    return tuple(found)


def by_day(models: Sequence[Side], how: Measuring, loss: Loss) -> Figure | None:
    """Draw both models' loss by day, and how sure the challenger's mean is."""
    daily = [
        (m, {day: value for day, (_, value) in daily_losses(loss, m.days, m.y, m.p, how, m.lists).items()})
        for m in models
    ]
    days = sorted({day for _, values in daily for day in values})[-DAYS:]
    ours = [daily[-1][1][day] for day in days if day in daily[-1][1]]
    every = [values[day] for _, values in daily for day in days if day in values]
    if not days or not np.isfinite(every).all():
        return None
    mean, low, high = lower_and_upper(ours, 0.975) if len(ours) > 1 else (float(np.mean(ours)), np.nan, np.nan)
    low = np.maximum(low, 0.0)  # no loss is below it
    reach = [*every, *(side for side in (low, high) if np.isfinite(side))]
    plot = Plot(day_axis(days), axis(min(reach), max(reach), loss))
    note = "a dot is the mean over the rows of a day"
    if np.isfinite(low):
        plot.box(0, len(days), low, high, "band")
        note += f"; the band holds the challenger’s mean over days, {mean:.4g}, with 95 % confidence"
    for m, values in daily:
        points = [(i + 0.5, values[day], day) for i, day in enumerate(days) if day in values]
        plot.line([x for x, _, _ in points], [value for _, value, _ in points], m.name)
        for x, value, day in points:
            plot.dot(x, value, m.name, f"{day}: {m.name} {value:.4g}")
    return Figure(f"{loss} by day", plot.svg(f"{loss} of each day"), keys((m.name, m.name) for m in models), note)


def calibration(title: str, models: Sequence[Side], labels: tuple[str, str], note: str) -> Figure:
    """Draw what came over what was predicted, in groups of as many rows; a strip below shows how many rows lie where."""
    points = []
    for m in models:
        groups = np.array_split(np.argsort(m.p, kind="stable"), min(_BINS, len(m.p)))
        points.append((m, [(float(m.p[g].mean()), float(m.y[g].mean()), len(g)) for g in groups]))
    every = [value for _, found in points for x, y, _ in found for value in (x, y)]
    both = axis(min(every), max(every))
    plot = Plot(both._replace(label=labels[0]), both._replace(label=labels[1]))
    counts, edges = np.histogram(models[-1].p, bins=40, range=(both.low, both.high))
    tallest, span = max(int(counts.max()), 1), both.high - both.low
    for i in np.flatnonzero(counts):
        said = f"{counts[i]:,} rows from {edges[i]:.4g} to {edges[i + 1]:.4g}"
        plot.box(edges[i], edges[i + 1], both.low, both.low + _STRIP * span * counts[i] / tallest, "dim", said)
    plot.line((both.low, both.high), (both.low, both.high), "ref")
    for m, found in points:
        plot.line([x for x, _, _ in found], [y for _, y, _ in found], m.name)
        for x, y, rows in found:
            plot.dot(x, y, m.name, f"{m.name}: {labels[0]} {x:.4g}, {labels[1]} {y:.4g}, {rows:,} rows")
    return Figure(
        title, plot.svg(title), keys((m.name, m.name) for m in models), f"{note}; below, how many rows lie where"
    )


def distribution(title: str, label: str, parts: tuple[tuple[str, str, Floats], ...], what: str = "rows") -> Figure:
    """Draw outlines of densities, each with area 1."""
    parts = tuple(part for part in parts if len(part[2]))
    low, high = central(np.concatenate([values for _, _, values in parts]))
    x = axis(low, high, label)
    heights = []
    for _, _, values in parts:
        counts, edges = np.histogram(values, bins=40, range=(x.low, x.high))
        heights.append(counts / max(len(values), 1) / (edges[1] - edges[0]))
    plot = Plot(x, axis(0.0, max(float(h.max()) for h in heights), "density", wanted=4))
    for (style, _, _), height in zip(parts, heights, strict=True):
        plot.area(np.repeat(edges, 2)[1:-1].tolist(), np.repeat(height, 2).tolist(), style)
    return Figure(title, plot.svg(title), keys((style, f"{name} ({len(v):,} {what})") for style, name, v in parts))


def named(label: str) -> Axis:
    """Return an axis from 0 to 1."""
    return _UNIT._replace(label=label)


def keys(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return what colours stand for, the challenger first."""
    return tuple(pairs)[::-1]


def thin(xs: Floats, ys: Floats) -> tuple[list[float], list[float]]:
    """Keep some of the points of a curve."""
    keep = np.unique(np.linspace(0, len(xs) - 1, min(POINTS, len(xs))).astype(np.int64))
    return xs[keep].tolist(), ys[keep].tolist()


def central(values: Floats) -> tuple[float, float]:
    """Return the range in which nearly all values lie."""
    low, high = np.quantile(values, (0.005, 0.995))
    return float(low), float(high)


def short(words: str, most: int) -> str:
    """Cut a label to so many characters."""
    return words if len(words) <= most else words[: most - 1] + "…"
