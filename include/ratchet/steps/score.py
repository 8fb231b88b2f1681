"""score: the league scores the newest labelled days before anything learns from them."""

from __future__ import annotations

import io
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.domain import layout
from ratchet.domain.alerts import Alert
from ratchet.domain.gates import LOSSES
from ratchet.domain.ledger import reign
from ratchet.domain.losses import by_day, daily_losses
from ratchet.domain.night import DayScore, ScoredVersion, ScoreResult
from ratchet.steps import drift, frames, turns
from ratchet.steps.champion import champion_version, problem_of, reconcile, refuse_strange
from ratchet.steps.recorded import recorded
from ratchet.steps.watch import predecessor, standby, watch
from ratchet.tables import GROUP, lists_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.drifted import DriftResult
    from ratchet.domain.models import ModelVersion
    from ratchet.steps.context import Context

_NAMED = 5  # days that are told one by one


class _Scored(NamedTuple):
    """What became of one version."""

    version: ScoredVersion
    days: tuple[DayScore, ...] = ()
    drift: DriftResult | None = None  # of the champion


def score(ctx: Context) -> ScoreResult:
    """Score each day that has labels now and that no member of the league has scored or learnt from."""
    return recorded(
        ctx, "score", ScoreResult, lambda: _score(ctx), final=lambda made: not any(v.problem for v in made.versions)
    )


def _score(ctx: Context) -> ScoreResult:
    services, name = ctx.services, ctx.pipeline.name
    entries = turns.look(services, name)
    champion, serves = champion_version(entries), reign(entries)
    if champion is None or serves is None:
        ctx.say("no champion yet: nothing to score")
        return ScoreResult(champion=None, reign=0, versions=(), rows=0)
    repaired = None if ctx.night.request.dry_run else reconcile(services, name)
    if repaired:
        ctx.say(repaired.words)
    if not ctx.night.request.dry_run:
        turns.read(services, name)  # anchors what a crash has left without one
    moved = repaired if repaired and repaired.by_hand else None
    shadows = {v.version: v for v in (standby(entries), predecessor(entries)) if v and v.version != champion.version}
    others = [
        v
        for v in services.registry.versions(name)
        if v.version != champion.version and v.cutoff < ctx.night.request.cutoff
    ]
    newest = [v for v in others if v.version not in shadows][: ctx.pipeline.spec.shadows]
    league = [champion, *shadows.values(), *newest]
    done = {layout.scored_place(stored.uri) for stored in services.store.list(layout.evidence(name))}
    scored = [_score_version(ctx, v, done, champion=v.version == champion.version) for v in dict.fromkeys(league)]
    made = ScoreResult(
        champion=champion,
        reign=serves.seq,
        versions=tuple(s.version for s in scored),
        rows=max((sum(day.rows for day in s.days) for s in scored), default=0),
        scores=tuple(day for s in scored for day in s.days),
        repaired=repaired.words if repaired else None,
        alerts=(
            *([Alert(kind="alias_moved", words=moved.words, version=champion.version)] if moved else ()),
            *drift.alerts(ctx, scored[0].drift),
        ),
        drift=scored[0].drift,
    )
    return made if ctx.night.request.dry_run else watch(ctx, entries, made)


def _days(met: Sequence[str]) -> str:
    """Name the days; of many, how many there are, and the first and the last."""
    if len(met) > _NAMED:
        return f"{len(met)} days, {met[0]} … {met[-1]}"
    return ", ".join(met) or "no day"


def _score_version(ctx: Context, version: ModelVersion, done: set[tuple[date, int]], *, champion: bool) -> _Scored:
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
        how, lists = ctx.pipeline.spec.measuring, lists_in(table)
        refuse_strange(files, how)
        y, predictions = services.trainer.labels(files, table), services.trainer.predict(files, table)
        metrics = services.trainer.metrics(how, y, predictions, lists)
        losses = {loss: daily_losses(loss, days, y, predictions, how, lists) for loss in LOSSES[how.task]}
        sides = {"predicted": predictions, "observed": y} if predictions.ndim == 1 and lists is None else {}
        means = {side: by_day(days, values) for side, values in sides.items()}
    except Exception as exc:  # noqa: BLE001  an old model may fail in ways of its own
        problem = problem_of(exc)
        return _Scored(ScoredVersion(version=version.version, champion=champion, days=(), metrics={}, problem=problem))
    found = tuple(
        DayScore(
            day=date.fromisoformat(day),
            version=version.version,
            run_key=version.run_key,
            rows=rows,
            losses={loss: by[day][1] for loss, by in losses.items()},
            **{side: by[day][1] for side, by in means.items()},
        )
        for day, (rows, _) in next(iter(losses.values())).items()  # of a ranking, those with an order to find
    )
    for day in found if not ctx.night.request.dry_run else ():
        if (day.day, version.version) not in done:
            _keep(ctx, day, _predictions(table, days == np.datetime64(day.day, "D"), y, predictions))
    met = tuple(str(day.day) for day in found)
    ctx.say(f"{name} v{version.version}: {table.num_rows} rows of {_days(met)}")
    made = ScoredVersion(version=version.version, champion=champion, days=met, metrics=dict(metrics))
    return _Scored(made, found, drift.look(ctx, version, files, frame, table, predictions) if champion else None)


def _keep(ctx: Context, made: DayScore, predictions: bytes) -> None:
    store, name = ctx.services.store, ctx.pipeline.name
    store.put(layout.scores(name, made.day, made.version), predictions, "application/vnd.apache.parquet")
    store.put(layout.scored(name, made.day, made.version), made.model_dump_json().encode())


def _predictions(table: pa.Table, here: object, y: object, predictions: object) -> bytes:
    part = table.select([name for name in ("row_id", "dt", GROUP) if name in table.column_names]).filter(pa.array(here))
    lists = lists_in(part)
    part = part.select(["row_id", "dt"]).append_column("label", pa.array(y[here]))  # type: ignore[index]
    part = part if lists is None else part.append_column("list", pa.array(lists))
    scores = predictions[here]  # type: ignore[index]
    part = part.append_column("prediction", pa.array(scores.tolist() if scores.ndim > 1 else scores))
    out = io.BytesIO()
    pq.write_table(part, out)
    return out.getvalue()
