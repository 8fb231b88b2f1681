"""evaluate: both models on the same rows, which neither has seen."""

from __future__ import annotations

import io
import json
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ratchet.domain import layout
from ratchet.domain.case import CaseForPromotion, MetricValue
from ratchet.domain.gates import LOSSES
from ratchet.domain.night import EvaluateResult
from ratchet.domain.records import sha256
from ratchet.domain.rivals import CHAMPION, rivals
from ratchet.errors import NightSkipped
from ratchet.steps import drift, frames
from ratchet.steps.business import business
from ratchet.steps.champion import problem_of
from ratchet.steps.explain import explained
from ratchet.steps.measures import Common, Scored, Slices, measures
from ratchet.steps.recorded import recorded
from ratchet.steps.trial import gather
from ratchet.steps.uncertainty import intervals, paired_differences

if TYPE_CHECKING:
    from ratchet.domain.models import ModelVersion
    from ratchet.steps.context import Context
    from ratchet.tables import Floats


def evaluate(ctx: Context) -> EvaluateResult:
    """Evaluate the challenger on the hold-out, and the champion on as much of it as it has not seen."""
    return recorded(
        ctx, "evaluate", EvaluateResult, lambda: _evaluate(ctx), final=lambda made: made.case.champion_problem is None
    )


def _evaluate(ctx: Context) -> EvaluateResult:
    night, services, spec = ctx.night, ctx.services, ctx.pipeline.spec
    assert night.train
    assert night.score
    digest, name = night.train.judged
    _, files = services.registry.download(night.train.mlflow_run_id, digest, name=name)
    holdout = ctx.windows.holdout
    frame = frames.feature_frame(ctx, ctx.pipeline.sql)
    table = frames.of_days(frame, holdout.first, holdout.last)
    if table.num_rows == 0:
        raise NightSkipped(
            "empty_holdout", f"no labelled row in the hold-out {holdout}; nothing can be decided without one"
        )
    challenger = Scored(ctx, files, table)
    drift.keep_reference(ctx, frame, files)
    champion, problem = _champion(ctx, night.score.champion)
    metrics = {name: MetricValue(value=value, rows=table.num_rows) for name, value in challenger.metrics.items()}
    metrics.update(_slices(ctx, challenger))
    common = Common(champion, challenger) if champion else None
    own = business(ctx, challenger, common)
    case = CaseForPromotion(
        metrics={**metrics, **own.metrics},
        champion=night.score.champion is not None,
        champion_problem=problem,
        paired={loss: common.paired(loss) for loss in LOSSES[spec.target.task]} if common else {},
        trial=gather(ctx) if problem is None else None,
        findings=night.findings,
        intervals=intervals(ctx, challenger, common) | own.intervals,
        **measures(ctx, frame, challenger, common),
    )
    unseen = champion.table.num_rows if champion else 0
    ctx.say(
        f"{table.num_rows} rows of {holdout}"
        + (f", {unseen} of them new to the champion too" if night.score.champion else "")
    )
    key = layout.step(ctx.pipeline.name, ctx.run_key, "predictions.parquet", dry_run=night.request.dry_run)
    kept = _predictions(ctx, challenger, champion)
    services.store.put(key, kept, "application/vnd.apache.parquet")
    ours = {**challenger.metrics, **{name: metric.value for name, metric in own.metrics.items()}}
    theirs = {**champion.metrics, **own.champion} if champion else None
    logged = {"holdout": ours, "champion": theirs or {}}
    services.registry.log(
        night.train.mlflow_run_id,
        metrics={f"{side}.{k}": v for side, found in logged.items() for k, v in found.items() if v is not None}
        | {
            f"baseline.{rival.name.replace(' ', '_')}.{rival.loss}": rival.own
            for rival in rivals(case)
            if rival.own is not None and rival.name != CHAMPION
        },
    )
    return EvaluateResult(
        case=case,
        rows=table.num_rows,
        challenger=ours,
        champion=theirs,
        common_rows=unseen,
        predictions=key,
        predictions_sha256=sha256(kept),
        explanation=explained(ctx, challenger, champion),
        differences=paired_differences(ctx, common) | own.differences if common else {},
    )


def _champion(ctx: Context, version: ModelVersion | None) -> tuple[Scored | None, str | None]:
    """Score the champion on the hold-out days that it has not seen, or say why that cannot be done."""
    if version is None:
        return None, None
    first = max(ctx.windows.holdout.first, date.fromordinal(version.seen_through.toordinal() + 1))
    try:
        _, files = ctx.services.registry.download(version.mlflow_run_id, version.artifact_digest)
        table = frames.of_days(frames.feature_frame(ctx, files.features), first, ctx.windows.holdout.last)
        scored = Scored(ctx, files, table)
    except Exception as exc:  # noqa: BLE001  an old model may fail in ways of its own
        return None, f"champion v{version.version}: {problem_of(exc)}"
    return scored, None


def _slices(ctx: Context, scored: Scored) -> dict[str, MetricValue]:
    """Return metrics per value of each slice column."""
    found: dict[str, MetricValue] = {}
    for column in ctx.pipeline.spec.evaluation.slices:
        for value, here in Slices(scored.table, column).among():
            metrics = ctx.services.trainer.metrics(
                ctx.pipeline.spec.measuring, scored.y[here], scored.predictions[here], scored.of_lists(here)
            )
            found.update(
                {f"{name}[{column}={value}]": MetricValue(value=v, rows=int(here.sum())) for name, v in metrics.items()}
            )
    return found


def _predictions(ctx: Context, challenger: Scored, champion: Scored | None) -> bytes:
    """Keep every prediction, so that any later question can be answered without scoring again.

    Columns of a multiclass prediction stand in the challenger's order of classes, which the schema's metadata names. The
    columns of ``evaluation.slices`` stand beside, as texts, with ``slice:`` before their names.
    """
    table = challenger.table.select(["row_id", "dt"])
    table = table.append_column("label", pa.array(challenger.y)).append_column(
        "challenger", column_of(challenger.predictions)
    )
    if challenger.lists is not None:
        table = table.append_column("list", pa.array(challenger.lists))
    if champion is not None:
        scores = _in_order(champion, challenger.classes)
        where = pc.index_in(table["row_id"], value_set=champion.table["row_id"].combine_chunks())
        table = table.append_column("champion", column_of(scores).take(where))  # null where the champion has none
    for name in ctx.pipeline.spec.evaluation.slices:
        table = table.append_column(f"slice:{name}", Slices(challenger.table, name).texts)
    table = table.replace_schema_metadata({"ratchet.classes": json.dumps(challenger.classes)})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _in_order(scored: Scored, classes: tuple[str, ...]) -> Floats:
    """Return a model's predictions with its columns in another model's order of classes; a class that it never met gets 0."""
    if scored.predictions.ndim == 1 or scored.classes == classes:
        return scored.predictions
    ordered = np.zeros((len(scored.predictions), len(classes)))
    for i, name in enumerate(classes):
        if name in scored.classes:
            ordered[:, i] = scored.predictions[:, scored.classes.index(name)]
    return ordered


def column_of(predictions: Floats) -> pa.Array:
    """Return predictions as a column: of numbers, or of lists of them."""
    if predictions.ndim == 1:
        return pa.array(predictions)
    rows, classes = predictions.shape
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * classes, predictions.ravel())
