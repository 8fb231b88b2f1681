"""The spec's own metrics: SQL aggregates over what champion and challenger predicted for the hold-out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ratchet.domain.case import MetricValue
from ratchet.domain.intervals import difference, draws, jackknife_intervals, left_out
from ratchet.tables import LABELS

if TYPE_CHECKING:
    import pyarrow as pa

    from ratchet.domain.case import Difference
    from ratchet.domain.intervals import Interval
    from ratchet.domain.measuring import Measuring
    from ratchet.steps.context import Context
    from ratchet.steps.measures import Common, Scored
    from ratchet.tables import Floats

PREFIX = "business."  # of their names among the other metrics
_MOST = 6_000_000  # rows that are drawn for intervals
_LEAST = 400  # draws; of fewer the outer percentiles say nothing, and the jackknife takes their place


class Business(NamedTuple):
    """What they come to."""

    metrics: dict[str, MetricValue]  # of the challenger on the hold-out
    champion: dict[str, float | None]  # on the rows that it has not seen
    intervals: dict[str, Interval]
    differences: dict[str, Difference]


def business(ctx: Context, challenger: Scored, common: Common | None) -> Business:
    """Compute them; of the challenger on the hold-out, and of both on the rows that neither has seen."""
    expressions = ctx.pipeline.spec.evaluation.business
    if not expressions:
        return Business({}, {}, {}, {})
    every = np.arange(challenger.table.num_rows)
    own = _drawn(ctx, _told(challenger, every, challenger, challenger.predictions), drawn=False)
    metrics = {name: MetricValue(value=_number(v[0]), rows=challenger.table.num_rows) for name, v in own.items()}
    found = Business(metrics, {}, jackknife_intervals(own), {})
    if common is None or not common.rows:
        return found
    ours, theirs = (
        _drawn(ctx, _told(challenger, common.ours, side, side.predictions[rows]), drawn=True)
        for side, rows in ((challenger, common.ours), (common.champion, common.theirs))
    )
    days = len(np.unique(challenger.days[common.ours]))
    compared = {name: difference(theirs[name], ours[name], rows=common.rows, days=days) for name in ours}
    intervals = {f"champion.{name}": i for name, i in jackknife_intervals(_whole(theirs, days)).items()}
    champion = {name: one.champion for name, one in compared.items()}
    return Business(metrics, champion, found.intervals | intervals, compared)


def refuse_wrong(ctx: Context, features: pa.Table) -> None:
    """Try the expressions on no row, before anything is fitted.

    Raises:
        SpecInvalid: one is no aggregate over the columns that there will be.
    """
    import pyarrow as pa  # noqa: PLC0415

    if ctx.pipeline.spec.evaluation.business:
        task = ctx.pipeline.spec.target.task
        named = pa.string() if task == "multiclass" else pa.float64()
        more = {"multiclass": {"probability": pa.float64()}, "quantile": {"quantiles": pa.list_(pa.float64())}}
        kinds = {"label": named, "prediction": named, **more.get(task, {})}
        columns = {name: pa.array([], kind) for name, kind in kinds.items()}
        table = beside(features.slice(0, 0), columns)
        ctx.services.engine.aggregates(table, ctx.pipeline.spec.evaluation.business, np.ones((1, 0)))


def columns_told(how: Measuring, classes: tuple[str, ...], y: Floats, predictions: Floats) -> dict[str, Any]:
    """Return what the expressions see besides the features: ``label`` and ``prediction``, and by task what else there is.

    Of a multiclass task both are the classes' names (NULL: one that the model never met), and ``probability`` is that of the predicted
    one; of a quantile task the prediction is the median, or the quantile nearest to it, and ``quantiles`` are all of them.
    """
    import pyarrow as pa  # noqa: PLC0415

    if how.task == "multiclass":
        names, chosen = pa.array(classes, pa.string()), predictions.argmax(axis=1)
        label = names.take(pa.array(y.astype(np.int64), mask=y < 0))
        return {
            "label": label,
            "prediction": names.take(pa.array(chosen)),
            "probability": pa.array(predictions[np.arange(len(y)), chosen]),
        }
    if how.task == "quantile":
        every = pa.array(predictions.tolist(), pa.list_(pa.float64()))
        return {"label": pa.array(y), "prediction": pa.array(predictions[:, how.middle]), "quantiles": every}
    return {"label": pa.array(y), "prediction": pa.array(predictions)}


def beside(table: pa.Table, ours: dict[str, Any]) -> pa.Table:
    """Put columns beside the features; of those of one name, ours stay."""
    hidden = {*(name.lower() for name in ours), *LABELS} - {"dt"}
    table = table.select([name for name in table.column_names if name.lower() not in hidden])
    for name, column in ours.items():
        table = table.append_column(name, column)
    return table


def _told(rows: Scored, which: Any, model: Scored, predictions: Floats) -> pa.Table:
    """Put a model's predictions for some rows beside their features."""
    import pyarrow as pa  # noqa: PLC0415

    table, y = rows.table.take(which), rows.y[which]
    if rows.measuring.task != "multiclass":
        return beside(table, columns_told(rows.measuring, model.classes, y, predictions))
    ours = columns_told(rows.measuring, model.classes, np.full(len(y), -1.0), predictions)
    ours["label"] = table["target"].cast(pa.string())  # of a class that a model never met, too
    return beside(table, ours)


def _drawn(ctx: Context, table: pa.Table, *, drawn: bool) -> dict[str, Floats]:
    """Compute the aggregates of all days, with each left out, and of as many draws as there is time for."""
    days = len(np.unique(table["dt"].to_numpy()))
    weights = left_out(days) if days > 1 else np.ones((1, days))
    many = min(len(draws(days)), _MOST // max(table.num_rows, 1))
    if drawn and days > 1 and many >= _LEAST:
        weights = np.vstack([weights, draws(days)[:many]])
    found = ctx.services.engine.aggregates(table, ctx.pipeline.spec.evaluation.business, weights)
    return {PREFIX + name: values for name, values in found.items()}


def _whole(values: dict[str, Floats], days: int) -> dict[str, Floats]:
    return {name: found[: 1 + days] for name, found in values.items()}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
