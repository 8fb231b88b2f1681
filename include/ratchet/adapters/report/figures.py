"""The plots of the hold-out, by task. Curves are scikit-learn's; at most some hundred points of each are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ratchet.adapters.report.svg import Axis, Figure, Plot, axis, day_axis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from ratchet.domain.models import Task

    Floats = np.ndarray[Any, np.dtype[np.float64]]

_POINTS = 200  # of a curve
_BINS = 10  # of a calibration curve, each with as many rows
_CLASSES = 12  # of a confusion matrix; the most frequent
_DAYS = 31
_UNIT = axis(0.0, 1.0)


class Side(NamedTuple):
    """One model on the rows that it was scored on."""

    name: str  # challenger or champion, the CSS class too
    days: Any
    y: Floats
    p: Floats  # (n,) or (n, classes)


def sides(predictions: pa.Table | None, task: Task) -> tuple[Side, ...]:
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
        if task == "multiclass":
            values = p.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
            p = values.reshape(rows.num_rows, -1)
        else:
            p = p.to_numpy(zero_copy_only=False).astype(np.float64)
        good = np.isfinite(y) & (np.isfinite(p) if p.ndim == 1 else np.isfinite(p).all(axis=1))
        if task != "regression":
            good &= y >= 0  # a class that the model never met has no place on these curves
        if good.any():
            found.append(Side(name, rows["dt"].to_numpy().astype("datetime64[D]")[good], y[good], p[good]))
    return tuple(found)


def figures(predictions: pa.Table | None, task: Task, classes: Sequence[str] = ()) -> tuple[Figure, ...]:
    """Draw what there is to draw."""
    models = sides(predictions, task)
    if not models:
        return ()
    if task == "binary":
        return tuple(_binary(models))
    return tuple(_multiclass(models, classes) if task == "multiclass" else _regression(models))


def _binary(models: tuple[Side, ...]) -> Iterator[Figure]:
    from sklearn import metrics as sk

    curves = [m for m in models if 0 < m.y.sum() < len(m.y)]
    if curves:
        roc, pr = (
            Plot(_named("false positive rate"), _named("true positive rate")),
            Plot(_named("recall"), _named("precision")),
        )
        roc.line((0, 1), (0, 1), "ref")
        rate = float(curves[-1].y.mean())
        pr.line((0, 1), (rate, rate), "ref")
        areas, averages = [], []
        for m in curves:
            fpr, tpr, _ = sk.roc_curve(m.y, m.p)
            roc.line(*_thin(fpr, tpr), m.name)
            areas.append((m.name, f"{m.name} {sk.auc(fpr, tpr):.4f}"))
            precision, recall, _ = sk.precision_recall_curve(m.y, m.p)
            pr.line(*_thin(recall, precision), m.name)
            averages.append((m.name, f"{m.name} {sk.average_precision_score(m.y, m.p):.4f}"))
        yield Figure("ROC", roc.svg("ROC curve"), _keys(areas), "area under the curve; the dashed line is chance")
        yield Figure(
            "Precision and recall",
            pr.svg("Precision over recall"),
            _keys(averages),
            f"average precision; the dashed line is the base rate {rate:.3f}",
        )
    yield _calibration(
        "Calibration", models, ("predicted probability", "observed rate"), "ten groups of as many rows, by prediction"
    )
    m = models[-1]
    yield _distribution(
        "Scores by label",
        "predicted probability",
        (("other", "label 0", m.p[m.y == 0]), ("challenger", "label 1", m.p[m.y == 1])),
    )


def _multiclass(models: tuple[Side, ...], classes: Sequence[str]) -> Iterator[Figure]:
    m = models[-1]
    labels, counts = np.unique(m.y.astype(np.int64), return_counts=True)
    shown = np.sort(labels[np.argsort(-counts, kind="stable")][:_CLASSES])
    names = [classes[c] if c < len(classes) else str(c) for c in shown.tolist()]
    more = f"the {_CLASSES} most frequent of {len(labels)} classes; " if len(labels) > _CLASSES else ""
    yield _confusion(m, shown, names, more)
    yield _recall([o for o in models if o.p.shape[1] == m.p.shape[1]], shown, names, more)
    tops = [Side(o.name, o.days, (o.p.argmax(axis=1) == o.y).astype(np.float64), o.p.max(axis=1)) for o in models]
    yield _calibration(
        "Calibration of the top class",
        tops,
        ("confidence", "share that is right"),
        "ten groups of as many rows, by confidence",
    )
    top = tops[-1]
    yield _distribution(
        "Confidence",
        "probability of the chosen class",
        (("other", "wrong", top.p[top.y == 0]), ("challenger", "right", top.p[top.y == 1])),
    )


def _confusion(m: Side, shown: Any, names: list[str], more: str) -> Figure:
    n = len(shown)
    classes = m.p.shape[1]
    every = np.bincount(m.y.astype(np.int64) * classes + m.p.argmax(axis=1), minlength=classes * classes)
    every = every.reshape(-1, classes)
    cells = every[np.ix_(shown, shown)]
    share = cells / np.maximum(every[shown].sum(axis=1, keepdims=True), 1)
    ticks = tuple((i + 0.5, _short(name, 9 if n < 7 else 4)) for i, name in enumerate(names))  # noqa: PLR2004  wide cells
    plot = Plot(
        Axis(0, n, ticks, "predicted"),
        Axis(n, 0, tuple((i, _short(t, 9)) for i, t in ticks), "actual"),
        height=300,
        left=66,
        grid=False,
    )
    for i in range(n):
        for j in range(n):
            said = f"actual {names[i]}, predicted {names[j]}: {cells[i, j]:,.0f} rows, {share[i, j]:.1%}"
            plot.box(
                j + 0.03,
                j + 0.97,
                i + 0.03,
                i + 0.97,
                "challenger" if i == j else "bad",
                said,
                max(0.04, float(share[i, j]) * 0.85),
            )
            plot.text(
                j + 0.5, i + 0.5 + 0.012 * n, f"{share[i, j]:.0%}", "cell strong" if 2 * share[i, j] > 1 else "cell"
            )
    return Figure("Confusion", plot.svg("Confusion matrix"), (), more + "share of each actual class (row)")


def _recall(models: Sequence[Side], shown: Any, names: list[str], more: str) -> Figure:
    n = len(shown)
    plot = Plot(
        _named("recall"),
        Axis(n, 0, tuple((i + 0.5, _short(name, 9)) for i, name in enumerate(names))),
        height=max(230.0, 60.0 + 22.0 * n),
        left=66,
        grid=False,
    )
    for m in reversed(models):  # the champion's ticks over the challenger's bars
        chosen = m.p.argmax(axis=1)
        for i, label in enumerate(shown):
            here = m.y == label
            value = float((chosen[here] == label).mean()) if here.any() else 0.0
            said = f"{m.name}, {names[i]}: recall {value:.1%} of {here.sum():,} rows"
            if m.name == "challenger":
                plot.box(0, value, i + 0.25, i + 0.75, m.name, said, 0.75)
            else:
                plot.box(value - 0.005, value + 0.005, i + 0.12, i + 0.88, m.name, said)
    return Figure(
        "Recall by class", plot.svg("Recall of each class"), _keys((m.name, m.name) for m in models), more.rstrip("; ")
    )


def _regression(models: tuple[Side, ...]) -> Iterator[Figure]:
    m = models[-1]
    low, high = _central(np.concatenate([m.y, m.p]))
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
    yield Figure(
        "Predicted and actual",
        plot.svg("Density of actual over predicted values"),
        (),
        "stronger: more rows; the dashed line is perfect",
    )
    yield _residuals(models)
    yield _calibration(
        "Calibration", models, ("mean prediction", "mean actual value"), "ten groups of as many rows, by prediction"
    )
    parts = tuple((o.name, o.name, o.y - o.p) for o in models)
    yield _distribution("Residuals", "actual − predicted", parts)


def _residuals(models: tuple[Side, ...]) -> Figure:
    m = models[-1]
    days = np.unique(m.days)[-_DAYS:]
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
        _keys((o.name, o.name) for o in models),
        "median, half and 80 % of the rows",
    )


def _calibration(title: str, models: Sequence[Side], labels: tuple[str, str], note: str) -> Figure:
    points = []
    for m in models:
        groups = np.array_split(np.argsort(m.p, kind="stable"), min(_BINS, len(m.p)))
        points.append((m, [float(m.p[g].mean()) for g in groups], [float(m.y[g].mean()) for g in groups]))
    every = [v for _, xs, ys in points for v in (*xs, *ys)]
    both = axis(min(every), max(every))
    plot = Plot(both._replace(label=labels[0]), both._replace(label=labels[1]))
    plot.line((both.low, both.high), (both.low, both.high), "ref")
    for m, xs, ys in points:
        plot.line(xs, ys, m.name)
        for x, y in zip(xs, ys, strict=True):
            plot.dot(x, y, m.name, f"{m.name}: {labels[0]} {x:.4g}, {labels[1]} {y:.4g}")
    return Figure(title, plot.svg(title), _keys((m.name, m.name) for m in models), note)


def _distribution(title: str, label: str, parts: tuple[tuple[str, str, Floats], ...]) -> Figure:
    """Draw outlines of densities, each with area 1."""
    parts = tuple(part for part in parts if len(part[2]))
    low, high = _central(np.concatenate([values for _, _, values in parts]))
    x = axis(low, high, label)
    heights = []
    for _, _, values in parts:
        counts, edges = np.histogram(values, bins=40, range=(x.low, x.high))
        heights.append(counts / max(len(values), 1) / (edges[1] - edges[0]))
    plot = Plot(x, axis(0.0, max(float(h.max()) for h in heights), "density", wanted=4))
    for (style, _, _), height in zip(parts, heights, strict=True):
        plot.area(np.repeat(edges, 2)[1:-1].tolist(), np.repeat(height, 2).tolist(), style)
    return Figure(title, plot.svg(title), _keys((style, f"{name} ({len(v):,} rows)") for style, name, v in parts))


def _named(label: str) -> Axis:
    return _UNIT._replace(label=label)


def _keys(pairs: Any) -> tuple[tuple[str, str], ...]:
    return tuple(pairs)[::-1]


def _thin(xs: Floats, ys: Floats) -> tuple[list[float], list[float]]:
    keep = np.unique(np.linspace(0, len(xs) - 1, min(_POINTS, len(xs))).astype(np.int64))
    return xs[keep].tolist(), ys[keep].tolist()


def _central(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, (0.005, 0.995))
    return float(low), float(high)


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"
