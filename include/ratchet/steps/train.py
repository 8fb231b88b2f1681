"""train: fit tonight's challenger and log it."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.domain.accounting import RowAccount
from ratchet.domain.night import TrainResult
from ratchet.domain.windows import Span
from ratchet.errors import AlreadyExists, NightSkipped, Problem, RowsUnaccounted, SpecInvalid
from ratchet.ports import DatasetUsed, TrainingPlan
from ratchet.provenance import cpus, libraries
from ratchet.steps import business, frames, lookahead
from ratchet.steps.recorded import recorded
from ratchet.steps.snapshot import accept, load
from ratchet.steps.window_checks import feature_findings, unless_rejected
from ratchet.tables import LABELS

if TYPE_CHECKING:
    import pyarrow as pa

    from ratchet.domain.windows import Windows
    from ratchet.ports import Fit
    from ratchet.steps.context import Context
    from ratchet.tables import FeatureFrame


def train(ctx: Context) -> TrainResult:
    """Fit on the window less its hold-out.

    Raises:
        NightSkipped: ``too_few_rows``.
        DataRejected: ``one_class``, ``empty``, ``non_finite``.
        RowsUnaccounted: the counts of the rows do not add up.
    """
    made = recorded(
        ctx,
        "train",
        TrainResult,
        lambda: _train(ctx),
        undo=lambda mine, _: ctx.services.registry.discard(mine.mlflow_run_id),
    )
    accept(ctx)
    _keep_recipe(ctx)
    return made


def fitted(ctx: Context, frame: FeatureFrame, days: Windows, least: int | None = None) -> Fit:
    """Fit the recipe on some days of a frame, with the refusals of every night.

    Args:
        ctx: whose recipe.
        frame: its features.
        days: to fit on and to watch.
        least: rows to fit on; by default as many as the spec asks for.

    Raises:
        NightSkipped: ``too_few_rows``.
        DataRejected: ``one_class``, ``empty``, ``non_finite``.
    """
    rows = frame.count(days.fit)
    least = ctx.pipeline.min_rows if least is None else least
    if rows < least:
        without = (
            f"; of {frame.landed} rows in the window {frame.unlabelled} have no label: target.sql is NULL for them"
        )
        raise NightSkipped(
            "too_few_rows",
            f"{rows} labelled rows in {days.fit}, {'segments' if ctx.pipeline.segment else 'window'}.min_rows is {least}"
            f"{without if frame.unlabelled else ''}",
        )
    ctx.say(f"fitting on {rows} rows of {days.fit}, watching {days.stop}")
    return ctx.services.trainer.fit(frame, days, plan_of(ctx), frames.feature_query(ctx, ctx.pipeline.sql))


def refitted(ctx: Context, frame: FeatureFrame, days: Windows, fit: Fit) -> Fit:
    """Fit again on all days up to the hold-out's last, where the spec asks for it; else return the fit as it is.

    As many rounds as early stopping kept are grown, on more rows: nothing is left that could say when to stop.
    """
    if not ctx.pipeline.spec.training.refit:
        return fit
    rounds, whole = fit.files.schema_.best_iteration + 1, Span(first=days.fit.first, last=days.holdout.last)
    ctx.say(f"fitting {rounds} rounds again, on {whole}: this model is registered, the other one is judged")
    return ctx.services.trainer.refit(frame, whole, plan_of(ctx), frames.feature_query(ctx, ctx.pipeline.sql), rounds)


def plan_of(ctx: Context) -> TrainingPlan:
    """Return how to fit, as the spec says."""
    training, made = ctx.pipeline.spec.training, ctx.night.train
    return TrainingPlan(
        task=ctx.pipeline.spec.target.task,
        params=training.params,
        rounds=training.rounds,
        early_stopping_rounds=training.early_stopping_rounds,
        seed=training.seed,
        threads=training.threads or (made.threads if made else 0) or cpus(),  # made again, with as many as then
        device=training.device,
        quantiles=ctx.pipeline.spec.target.quantiles,
        engine=training.engine,
        memory_gib=training.memory_gib,
        class_weights=training.class_weights,
        half_life_days=training.half_life_days,
        monotone=training.monotone,
    )


def _keep_recipe(ctx: Context) -> None:
    """Keep what was declared, so that a later night can fit it again although it no longer stands in the home."""
    if not ctx.night.request.dry_run:
        key = layout.recipe(ctx.pipeline.name, ctx.pipeline.recipe)
        with contextlib.suppress(AlreadyExists):  # it may differ in what decides no model
            ctx.services.store.create(key, ctx.pipeline.model_dump_json(indent=1).encode())


def _train(ctx: Context) -> TrainResult:
    spec, services, days = ctx.pipeline.spec, ctx.services, ctx.windows
    frame = frames.feature_frame(ctx, ctx.pipeline.sql)
    _refuse_unknown_slices(ctx, frame.table)
    business.refuse_wrong(ctx, frame.table)
    audits = (lookahead.look(ctx), lookahead.judged(ctx))
    found = (*feature_findings(ctx, frame), *(finding for audit in audits for finding in audit.findings))
    findings = unless_rejected(found)
    fit = fitted(ctx, frame, days)
    served = refitted(ctx, frame, days, fit)
    account = _account(ctx, frame, fit, days)
    rounds = fit.files.schema_.best_iteration + 1
    ctx.say(f"{rounds} rounds kept; logging to MLflow")
    run_id = _log(ctx, frame, fit, served)
    again = served is not fit
    return TrainResult(
        mlflow_run_id=run_id,
        mlflow_url=services.registry.run_url(spec.name, run_id),
        artifact_digest=served.files.digest,
        evaluated=fit.files.digest if again else "",
        refitted=served.rows if again else 0,
        rows=fit.rows,
        rounds=rounds,
        importance=dict(fit.importance),
        seen_through=days.holdout.last if again else days.stop.last,
        unlabelled=frame.unlabelled,
        dropped=frame.dropped,
        account=account,
        findings=findings,
        audited=tuple(words for audit in audits for words in audit.words),
        threads=plan_of(ctx).threads,
        made_on=dict(served.made_on),
    )


def _account(ctx: Context, frame: FeatureFrame, fit: Fit, days: Windows) -> RowAccount:
    """Say where each landed row has gone. The manifest, the engine and the trainer have counted, each for itself.

    Raises:
        RowsUnaccounted: their counts do not add up.
    """
    validated, mine = (
        ctx.night.validate_,
        bool(ctx.pipeline.segment),
    )  # of a segment only its labelled rows can be told apart
    assert validated
    account = RowAccount(
        landed=frame.landed if mine else sum(pin.rows for pin in load(ctx).tables["rows"]),
        outside=frame.outside,
        quarantined_partitions=0 if mine else sum(q.rows for q in validated.quarantined),
        quarantined_rows=frame.quarantined,
        unlabelled=frame.unlabelled,
        dropped=frame.dropped,
        fitted=fit.rows,
        watched=frame.count(days.stop),
        held_out=frame.count(days.holdout),
    )
    single = 0 if mine else sum(q.rows for q in validated.quarantined_rows)
    if account.quarantined_rows != single:
        why = f"{single} rows were quarantined one by one, {account.quarantined_rows} were left out"
        raise RowsUnaccounted(ctx.pipeline.name, why, str(account))
    if account.missing:
        why = f"{account.missing} rows are missing" if account.missing > 0 else f"{-account.missing} rows count twice"
        raise RowsUnaccounted(ctx.pipeline.name, why, str(account))
    return account


def _log(ctx: Context, frame: FeatureFrame, fit: Fit, served: Fit) -> str:
    registry, request, night, plan = ctx.services.registry, ctx.night.request, ctx.night, plan_of(ctx)
    assert night.snapshot
    run_id = registry.start_run(
        ctx.pipeline.name,
        ctx.run_key,
        f"{ctx.pipeline.name} {request.cutoff}",
        {
            "ratchet.pipeline": ctx.pipeline.name,
            "ratchet.cutoff": str(request.cutoff),
            "ratchet.snapshot": night.snapshot.digest,
            "ratchet.spec_digest": night.spec_digest,
            "ratchet.code_digest": night.code_digest,
            "ratchet.artifact_digest": served.files.digest,
            "ratchet.dry_run": str(request.dry_run).lower(),
            "ratchet.actor": request.actor,
            "mlflow.note.content": request.reason,
        },
    )
    registry.log(
        run_id,
        params={
            **{k: str(v) for k, v in plan.params.items()},
            "rounds": str(plan.rounds),
            "early_stopping_rounds": str(plan.early_stopping_rounds),
            "seed": str(plan.seed),
            "threads": str(plan.threads),
            **{f"made_on.{k}": v for k, v in served.made_on.items()},
            "task": plan.task,
            "window": str(ctx.windows.whole),
        },
        metrics={
            "train.rows": fit.rows,
            "train.rounds": fit.files.schema_.best_iteration + 1,
            **({"train.refitted": served.rows} if served is not fit else {}),
            "train.unlabelled": frame.unlabelled,
            "train.dropped": frame.dropped,
        },
        curves={f"stop.{name}": values for name, values in fit.curves.items()},
        files={
            "spec.json": ctx.pipeline.spec.model_dump_json(indent=1).encode(),
            "suite.json": json.dumps(ctx.pipeline.suite, indent=1).encode(),
            "libraries.json": json.dumps(libraries(), indent=1).encode(),
            "importance.json": json.dumps(dict(fit.importance), indent=1).encode(),
        },
    )
    registry.log_inputs(run_id, _datasets(ctx, frame))
    registry.log_model(run_id, served.files)
    if served is not fit:
        registry.log_model(run_id, fit.files, "evaluated")
    registry.finish(run_id)
    return run_id


def _datasets(ctx: Context, frame: FeatureFrame) -> list[DatasetUsed]:
    """Say what was learnt from, table by table."""
    made, tables = load(ctx), ctx.pipeline.spec.reads(ctx.night.request.cutoff)
    return [
        DatasetUsed(
            name=name,
            snapshot=made.digest,
            uri=table.uri,
            rows=sum(pin.rows for pin in made.tables[name]),
            objects=len(made.tables[name]),
            columns=frame.columns.get(name, {}),
        )
        for name, (table, _) in tables.items()
    ]


def _refuse_unknown_slices(ctx: Context, rows: pa.Table) -> None:
    features = [name for name in rows.column_names if name not in LABELS]
    spec = ctx.pipeline.spec
    named = {f"evaluation.slices[{i}]": name for i, name in enumerate(spec.evaluation.slices)}
    named |= (
        {"segments.by": spec.segments.by} if spec.segments else {}
    )  # before all rows have had their night for nothing
    for key, name in named.items():
        if name not in features:
            words = f"{name!r} is no feature of the query; there are: {', '.join(features)}"
            raise SpecInvalid([Problem(f"pipelines/{ctx.pipeline.name}.yaml", key, words)])
