"""evaluate: both models on the same rows, which neither has seen."""

from __future__ import annotations

import io
import json
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.domain import layout
from ratchet.domain.case import CaseForPromotion, DayLoss, MetricValue
from ratchet.domain.gates import LOSSES, Loss
from ratchet.domain.losses import by_day, row_losses
from ratchet.domain.night import EvaluateResult
from ratchet.errors import NightSkipped
from ratchet.steps import frames
from ratchet.steps.champion import problem_of
from ratchet.steps.recorded import recorded
from ratchet.steps.trial import gather

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratchet.domain.models import ModelFiles, ModelVersion
    from ratchet.ports import Floats
    from ratchet.steps.context import Context


class _Scored:
    """A model on a table."""

    def __init__(self, ctx: Context, files: ModelFiles, table: pa.Table) -> None:
        trainer = ctx.services.trainer
        self.classes = files.schema_.classes
        self.table = table
        self.days = table["dt"].to_numpy().astype("datetime64[D]")
        self.y: Floats = trainer.labels(files, table)
        self.predictions: Floats = trainer.predict(files, table)
        self.metrics: Mapping[str, float | None] = trainer.metrics(
            ctx.pipeline.spec.target.task, self.y, self.predictions
        )


def evaluate(ctx: Context) -> EvaluateResult:
    """Evaluate the challenger on the hold-out, and the champion on as much of it as it has not seen."""
    return recorded(
        ctx, "evaluate", EvaluateResult, lambda: _evaluate(ctx), final=lambda made: made.case.champion_problem is None
    )


def _evaluate(ctx: Context) -> EvaluateResult:
    night, services, spec = ctx.night, ctx.services, ctx.pipeline.spec
    assert night.train
    assert night.score
    _, files = services.registry.download(night.train.mlflow_run_id, night.train.artifact_digest)
    holdout = ctx.windows.holdout
    table = frames.of_days(frames.feature_frame(ctx, ctx.pipeline.sql), holdout.first, holdout.last)
    if table.num_rows == 0:
        raise NightSkipped(
            "empty_holdout", f"no labelled row in the hold-out {holdout}; nothing can be decided without one"
        )
    challenger = _Scored(ctx, files, table)
    champion, problem = _champion(ctx, night.score.champion)
    metrics = {name: MetricValue(value=value, rows=table.num_rows) for name, value in challenger.metrics.items()}
    metrics.update(_slices(ctx, challenger))
    paired = {loss: _paired(champion, challenger, loss) for loss in LOSSES[spec.target.task]} if champion else {}
    case = CaseForPromotion(
        metrics=metrics,
        champion=night.score.champion is not None,
        champion_problem=problem,
        paired=paired,
        trial=gather(ctx) if problem is None else None,
    )
    common = champion.table.num_rows if champion else 0
    ctx.say(
        f"{table.num_rows} rows of {holdout}"
        + (f", {common} of them new to the champion too" if night.score.champion else "")
    )
    key = layout.step(spec.name, ctx.run_key, "predictions.parquet", dry_run=night.request.dry_run)
    services.store.put(key, _predictions(challenger, champion), "application/vnd.apache.parquet")
    services.registry.log(
        night.train.mlflow_run_id,
        metrics={
            **{f"holdout.{name}": v for name, v in challenger.metrics.items() if v is not None},
            **{f"champion.{name}": v for name, v in (champion.metrics if champion else {}).items() if v is not None},
        },
    )
    return EvaluateResult(
        case=case,
        rows=table.num_rows,
        challenger=dict(challenger.metrics),
        champion=dict(champion.metrics) if champion else None,
        common_rows=common,
        predictions=key,
    )


def _champion(ctx: Context, version: ModelVersion | None) -> tuple[_Scored | None, str | None]:
    """Score the champion on the hold-out days that it has not seen, or say why that cannot be done."""
    if version is None:
        return None, None
    first = max(ctx.windows.holdout.first, date.fromordinal(version.seen_through.toordinal() + 1))
    try:
        _, files = ctx.services.registry.download(version.mlflow_run_id, version.artifact_digest)
        table = frames.of_days(frames.feature_frame(ctx, files.features), first, ctx.windows.holdout.last)
        scored = _Scored(ctx, files, table)
    except Exception as exc:  # noqa: BLE001  an old model may fail in ways of its own
        return None, f"champion v{version.version}: {problem_of(exc)}"
    return scored, None


def _paired(champion: _Scored, challenger: _Scored, loss: Loss) -> tuple[DayLoss, ...]:
    """Return both models' daily losses over the rows that both have scored."""
    common = np.intersect1d(champion.table["row_id"].to_numpy(), challenger.table["row_id"].to_numpy())
    sides = []
    for side in (champion, challenger):
        here = np.isin(side.table["row_id"].to_numpy(), common)
        sides.append(by_day(side.days[here], row_losses(loss, side.y[here], side.predictions[here])))
    return tuple(
        DayLoss(day=day, rows=rows, champion=value, challenger=sides[1][day][1])
        for day, (rows, value) in sides[0].items()
    )


def _slices(ctx: Context, scored: _Scored) -> dict[str, MetricValue]:
    """Return metrics per value of each slice column."""
    found: dict[str, MetricValue] = {}
    for column in ctx.pipeline.spec.evaluation.slices:
        values = np.array([str(v) for v in scored.table[column].to_pylist()])
        for value in np.unique(values):
            here = values == value
            metrics = ctx.services.trainer.metrics(
                ctx.pipeline.spec.target.task, scored.y[here], scored.predictions[here]
            )
            found.update(
                {f"{name}[{column}={value}]": MetricValue(value=v, rows=int(here.sum())) for name, v in metrics.items()}
            )
    return found


def _predictions(challenger: _Scored, champion: _Scored | None) -> bytes:
    """Keep every prediction, so that any later question can be answered without scoring again.

    Columns of a multiclass prediction stand in the challenger's order of classes, which the schema's metadata names.
    """
    table = challenger.table.select(["row_id", "dt"])
    table = table.append_column("label", pa.array(challenger.y)).append_column(
        "challenger", _column(challenger.predictions)
    )
    if champion is not None:
        scores = _in_order(champion, challenger.classes)
        theirs = dict(zip(champion.table["row_id"].to_pylist(), scores.tolist(), strict=True))
        table = table.append_column("champion", pa.array([theirs.get(row) for row in table["row_id"].to_pylist()]))
    table = table.replace_schema_metadata({"ratchet.classes": json.dumps(challenger.classes)})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _in_order(scored: _Scored, classes: tuple[str, ...]) -> Floats:
    """Return a model's predictions with its columns in another model's order of classes; a class that it never met gets 0."""
    if scored.predictions.ndim == 1 or scored.classes == classes:
        return scored.predictions
    ordered = np.zeros((len(scored.predictions), len(classes)))
    for i, name in enumerate(classes):
        if name in scored.classes:
            ordered[:, i] = scored.predictions[:, scored.classes.index(name)]
    return ordered


def _column(predictions: Floats) -> pa.Array:
    return pa.array(predictions if predictions.ndim == 1 else predictions.tolist())
