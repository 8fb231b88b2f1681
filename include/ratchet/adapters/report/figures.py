"""The plots of the hold-out, by task. Curves are scikit-learn's; at most some hundred points of each are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.adapters.report import figures_lists, figures_values
from ratchet.adapters.report.sides import Side, by_day, calibration, distribution, keys, named, short, sides, thin
from ratchet.adapters.report.svg import Axis, Figure, Plot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from ratchet.domain.gates import Loss
    from ratchet.domain.measuring import Measuring

_CLASSES = 12  # of a confusion matrix; the most frequent
_NEVER_MET = "(never met)"  # the classes of the hold-out that training had no row of
_WIDE, _NAME = 9, 17  # letters of a class's name that fit under a wide cell, and beside a line
_LETTER = 6.0  # width of a letter of an axis, on average
_TENTH = 0.1  # of the rows, whose lift is told


def figures(
    predictions: pa.Table | None, how: Measuring, loss: Loss, classes: Sequence[str] = ()
) -> tuple[Figure, ...]:
    """Draw what there is to draw.

    Args:
        predictions: as ``ports.Reporter.page`` takes them.
        how: the task, and where it is looked at.
        loss: of which each day is shown.
        classes: of a multiclass task, their names.
    """
    models = sides(predictions, how)
    if not models:
        return ()
    match how.task:
        case "binary":
            drawn = _binary(models, how.threshold)
        case "multiclass":
            drawn = _multiclass(models, classes)
        case "regression":
            drawn = figures_values.regression(models)
        case "quantile":
            drawn = figures_values.quantile(models, how)
        case "ranking":
            drawn = figures_lists.ranking(models, how)
    days = by_day(models, how, loss)
    return (*drawn, *([days] if days else []))


def _binary(models: tuple[Side, ...], threshold: float) -> Iterator[Figure]:
    curves = [m for m in models if 0 < m.y.sum() < len(m.y)]
    if curves:
        yield from _curves(curves, threshold)
        yield _gain(curves)
    yield calibration(
        "Calibration", models, ("predicted probability", "observed rate"), "ten groups of as many rows, by prediction"
    )
    m = models[-1]
    yield distribution(
        "Scores by label",
        "predicted probability",
        (("other", "label 0", m.p[m.y == 0]), ("challenger", "label 1", m.p[m.y == 1])),
    )


def _curves(curves: Sequence[Side], threshold: float) -> Iterator[Figure]:
    from sklearn import metrics as sk

    roc = Plot(named("false positive rate"), named("true positive rate"))
    pr = Plot(named("recall"), named("precision"))
    roc.line((0, 1), (0, 1), "ref")
    rate = float(curves[-1].y.mean())
    pr.line((0, 1), (rate, rate), "ref")
    areas, averages = [], []
    for m in curves:
        fpr, tpr, _ = sk.roc_curve(m.y, m.p)
        roc.line(*thin(fpr, tpr), m.name)
        areas.append((m.name, f"{m.name} {sk.auc(fpr, tpr):.4f}"))
        precision, recall, _ = sk.precision_recall_curve(m.y, m.p)
        pr.line(*thin(recall, precision), m.name)
        averages.append((m.name, f"{m.name} {sk.average_precision_score(m.y, m.p):.4f}"))
        chosen, event = m.p >= threshold, m.y == 1
        found, false = float(chosen[event].mean()), float(chosen[~event].mean())
        at = f"{m.name} at {threshold:g}: recall {found:.1%}, "
        roc.dot(false, found, m.name, f"{at}false positive rate {false:.1%}", radius=4)
        if chosen.any():
            right = float(event[chosen].mean())
            pr.dot(found, right, m.name, f"{at}precision {right:.1%}", radius=4)
    dot = f"the dot is the operating point {threshold:g}"
    yield Figure("ROC", roc.svg("ROC curve"), keys(areas), f"area under the curve; {dot}; the dashed line is chance")
    note = f"average precision; {dot}; the dashed line is the base rate {rate:.3f}"
    yield Figure("Precision and recall", pr.svg("Precision over recall"), keys(averages), note)


def _gain(curves: Sequence[Side]) -> Figure:
    plot = Plot(named("share of rows, the highest predictions first"), named("share of events found"))
    plot.line((0, 1), (0, 1), "ref")
    lifts = []
    for m in curves:
        order = np.argsort(-m.p, kind="stable")
        found = np.concatenate([[0.0], np.cumsum(m.y[order]) / m.y.sum()])
        rows = np.arange(len(found)) / len(m.y)
        plot.line(*thin(rows, found), m.name)
        tenth = float(np.interp(_TENTH, rows, found))
        plot.dot(_TENTH, tenth, m.name, f"{m.name}: the first tenth of the rows holds {tenth:.1%} of the events")
        lifts.append((m.name, f"{m.name} {tenth / _TENTH:.2f}"))
    note = "lift of the first tenth: how many times as many events as among as many rows by chance"
    return Figure("Gain", plot.svg("Share of events found over share of rows"), keys(lifts), note)


def _multiclass(models: tuple[Side, ...], classes: Sequence[str]) -> Iterator[Figure]:
    m = models[-1]
    labels, counts = np.unique(m.y.astype(np.int64), return_counts=True)
    shown = np.sort(labels[np.argsort(-counts, kind="stable")][:_CLASSES])
    names = [_NEVER_MET if c < 0 else classes[c] if c < len(classes) else str(c) for c in shown.tolist()]
    more = f"the {_CLASSES} most frequent of {len(labels)} classes; " if len(labels) > _CLASSES else ""
    yield _confusion(m, shown, names, more)
    yield _recall([o for o in models if o.p.shape[1] == m.p.shape[1]], shown, names, more)
    tops = [Side(o.name, o.days, (o.p.argmax(axis=1) == o.y).astype(np.float64), o.p.max(axis=1)) for o in models]
    yield calibration(
        "Calibration of the top class",
        tops,
        ("confidence", "share that is right"),
        "ten groups of as many rows, by confidence",
    )
    top = tops[-1]
    yield distribution(
        "Confidence",
        "probability of the chosen class",
        (("other", "wrong", top.p[top.y == 0]), ("challenger", "right", top.p[top.y == 1])),
    )


def _confusion(m: Side, shown: Any, names: list[str], more: str) -> Figure:
    """Draw what was predicted for each class; rows of a class that was never met (−1) have a line, and no column."""
    classes = m.p.shape[1]
    every = np.bincount((m.y.astype(np.int64) + 1) * classes + m.p.argmax(axis=1), minlength=(classes + 1) * classes)
    every = every.reshape(-1, classes)[shown + 1]
    share = every / np.maximum(every.sum(axis=1, keepdims=True), 1)
    columns = [i for i, c in enumerate(shown.tolist()) if 0 <= c < classes]
    n, cells, share = len(columns), every[:, shown[columns]], share[:, shown[columns]]
    lines, left = _class_axis(names)
    fit = max(map(len, names)) <= (_WIDE if n < 7 else 4)  # noqa: PLR2004  wide cells
    ticks = tuple((j + 0.5, names[i] if fit else str(i + 1)) for j, i in enumerate(columns))
    plot = Plot(
        Axis(0, max(n, 1), ticks, "predicted"), lines._replace(label="actual"), height=300, left=left, grid=False
    )
    for i, line in enumerate(names):
        for j, column in enumerate(columns):
            said = f"actual {line}, predicted {names[column]}: {cells[i, j]:,.0f} rows, {share[i, j]:.1%}"
            plot.box(
                j + 0.03,
                j + 0.97,
                i + 0.03,
                i + 0.97,
                "challenger" if i == column else "bad",
                said,
                max(0.04, float(share[i, j]) * 0.85),
            )
            plot.text(
                j + 0.5,
                i + 0.5 + 0.012 * len(names),
                f"{share[i, j]:.0%}",
                "cell strong" if 2 * share[i, j] > 1 else "cell",
            )
    return Figure("Confusion", plot.svg("Confusion matrix"), (), more + "share of each actual class (row)")


def _class_axis(names: Sequence[str]) -> tuple[Axis, float]:
    """Return an axis of classes from the top, numbered where one's name is too long to stand twice, and the room for it."""
    numbered = max(map(len, names)) > _WIDE
    ticks = [short(f"{i} {name}" if numbered else name, _NAME) for i, name in enumerate(names, start=1)]
    left = 20 + _LETTER * max(_WIDE, *map(len, ticks))
    return Axis(len(names), 0, tuple((i + 0.5, tick) for i, tick in enumerate(ticks))), left


def _recall(models: Sequence[Side], shown: Any, names: list[str], more: str) -> Figure:
    lines, left = _class_axis(names)
    plot = Plot(named("recall"), lines, height=max(230.0, 60.0 + 22.0 * len(names)), left=left, grid=False)
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
        "Recall by class", plot.svg("Recall of each class"), keys((m.name, m.name) for m in models), more.rstrip("; ")
    )
