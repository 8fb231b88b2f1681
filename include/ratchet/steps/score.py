"""score: the league scores the newest labelled days before anything learns from them."""

from __future__ import annotations

import io
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.domain import layout
from ratchet.domain.gates import LOSSES, Loss
from ratchet.domain.losses import by_day, row_losses
from ratchet.domain.night import ScoredVersion, ScoreResult
from ratchet.domain.records import Record
from ratchet.steps import frames
from ratchet.steps.champion import champion_version, problem_of, reconcile
from ratchet.steps.recorded import recorded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratchet.domain.models import ModelVersion
    from ratchet.steps.context import Context


class DayScore(Record):
    """One version's losses on one day: what the evidence is made of."""

    day: date
    version: int
    run_key: str
    rows: int
    losses: dict[Loss, float]  # means over the day's rows


def score(ctx: Context) -> ScoreResult:
    """Score each day that has labels now and that no member of the league has scored or learnt from."""
    return recorded(
        ctx, "score", ScoreResult, lambda: _score(ctx), final=lambda made: not any(v.problem for v in made.versions)
    )


def _score(ctx: Context) -> ScoreResult:
    services, name = ctx.services, ctx.pipeline.name
    entries = services.ledger.entries(name)
    if not entries:
        ctx.say("no champion yet: nothing to score")
        return ScoreResult(champion=None, ledger_length=0, versions=(), rows=0)
    champion = champion_version(entries)
    if not ctx.night.request.dry_run:
        repaired = reconcile(services, name)
        if repaired:
            ctx.say(repaired)
    predecessor = next((e.champion.version for e in reversed(entries) if e.champion.version != champion.version), None)
    others = [
        v
        for v in services.registry.versions(name)
        if v.version != champion.version and v.cutoff < ctx.night.request.cutoff
    ]
    newest = [v for v in others if v.version != predecessor][: ctx.pipeline.spec.league.size]
    league = [champion, *(v for v in others if v.version == predecessor), *newest]
    done = {_place(stored.uri) for stored in services.store.list(layout.evidence(name))}
    scored = [_score_version(ctx, v, done, champion=v.version == champion.version) for v in dict.fromkeys(league)]
    return ScoreResult(
        champion=champion,
        ledger_length=len(entries),
        versions=tuple(s for s, _ in scored),
        rows=max((n for _, n in scored), default=0),
    )


def _place(uri: str) -> tuple[str, int]:
    day, version = uri.rpartition("/evidence/")[2].split("/")[-2:]
    return day.removeprefix("dt="), int(version.removeprefix("version=").removesuffix(".json"))


def _score_version(
    ctx: Context, version: ModelVersion, done: set[tuple[str, int]], *, champion: bool
) -> tuple[ScoredVersion, int]:
    """Score the days whose labels came after the version was made; whatever goes wrong with it is its own problem."""
    services, name = ctx.services, ctx.pipeline.name
    labelled = ctx.pipeline.spec.windows(version.cutoff).newest
    try:
        _, files = services.registry.download(version.mlflow_run_id, version.artifact_digest)
        frame = frames.feature_frame(ctx, files.features)
        table = frames.of_days(
            frame, max(date.fromordinal(labelled.toordinal() + 1), ctx.windows.whole.first), ctx.windows.newest
        )
        days = table["dt"].to_numpy().astype("datetime64[D]")
        y, predictions = services.trainer.labels(files, table), services.trainer.predict(files, table)
        metrics = services.trainer.metrics(ctx.pipeline.spec.target.task, y, predictions)
        losses = {
            loss: by_day(days, row_losses(loss, y, predictions)) for loss in LOSSES[ctx.pipeline.spec.target.task]
        }
    except Exception as exc:  # noqa: BLE001  an old model may fail in ways of its own
        problem = problem_of(exc)
        return ScoredVersion(version=version.version, champion=champion, days=(), metrics={}, problem=problem), 0
    met = tuple(next(iter(losses.values())))
    if not ctx.night.request.dry_run:
        for day in met:
            if (day, version.version) not in done:
                here = days == _numpy_day(day)
                _keep(
                    ctx, version, day, {k: v[day] for k, v in losses.items()}, _predictions(table, here, y, predictions)
                )
    ctx.say(f"{name} v{version.version}: {table.num_rows} rows of {', '.join(met) or 'no day'}")
    return ScoredVersion(version=version.version, champion=champion, days=met, metrics=dict(metrics)), table.num_rows


def _numpy_day(day: str) -> object:
    import numpy as np  # noqa: PLC0415

    return np.datetime64(day, "D")


def _keep(
    ctx: Context, version: ModelVersion, day: str, losses: Mapping[Loss, tuple[int, float]], predictions: bytes
) -> None:
    store, name = ctx.services.store, ctx.pipeline.name
    made = DayScore(
        day=date.fromisoformat(day),
        version=version.version,
        run_key=version.run_key,
        rows=next(iter(losses.values()))[0],
        losses={loss: value for loss, (_, value) in losses.items()},
    )
    store.put(layout.scores(name, made.day, version.version), predictions, "application/vnd.apache.parquet")
    store.put(layout.scored(name, made.day, version.version), made.model_dump_json().encode())


def _predictions(table: pa.Table, here: object, y: object, predictions: object) -> bytes:
    part = table.select(["row_id", "dt"]).filter(pa.array(here))
    part = part.append_column("label", pa.array(y[here]))  # type: ignore[index]
    scores = predictions[here]  # type: ignore[index]
    part = part.append_column("prediction", pa.array(scores.tolist() if scores.ndim > 1 else scores))
    out = io.BytesIO()
    pq.write_table(part, out)
    return out.getvalue()
