"""Trials: what the evidence gates weigh, day by day, each model fitted before the day that judges it.

A recipe that is not the champion's is tried against the champion's recipe: for each day both are fitted as the night before
it would have fitted them, and both score it. That refreshing beats holding is tried by a walk through the window's past (one
model held, one fitted anew for each day), and then by the league: the champion against the challengers made since.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.checks import Outcome
from ratchet.domain.evidence import Lane, Shadow, Trial
from ratchet.domain.gates import LOSSES, EvidenceGate, Loss
from ratchet.domain.ledger import TURNS, certification, line, reign
from ratchet.domain.losses import mean_loss
from ratchet.domain.night import DayScore, EvaluateResult, GateResult
from ratchet.domain.records import Record, digest
from ratchet.domain.statistics import Evidence
from ratchet.domain.windows import DAY, Span
from ratchet.errors import AlreadyExists, DataRejected, ObjectNotFound
from ratchet.steps import frames
from ratchet.steps.champion import problem_of, recipe_of
from ratchet.steps.context import silent
from ratchet.steps.fleets import members
from ratchet.steps.pairs import over_common_rows
from ratchet.steps.train import fitted, refitted
from ratchet.tables import lists_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.models import ModelFiles, ModelVersion
    from ratchet.spec import Pipeline, PipelineSpec
    from ratchet.steps.context import Context
    from ratchet.tables import FeatureFrame, Floats

_SHADOWS = 7  # of the newest challengers of the recipe
_USUAL = 0.02  # of the champion's loss: a typical difference of a day


class TrialDay(Record):
    """One day of a trial, recorded once."""

    day: date
    lane: Lane
    first: date  # of the trial's days in this reign
    last: date  # newest day of the night that began it: what lies before was replayed from history
    rows: int = 0
    champion: dict[str, float] = {}  # mean losses of the champion's recipe, or of the model that is held
    challenger: dict[str, float] = {}
    problem: str = ""  # why the day makes no evidence


def gather(ctx: Context, *, fit: bool = True) -> Trial | None:
    """Gather what tonight's evidence gates weigh; None where there are none, or no champion.

    Without ``fit``, trial days that are not recorded are left out instead of made.
    """
    score, cutoff = ctx.night.score, ctx.night.request.cutoff
    gates = [gate for gate in ctx.pipeline.spec.gates if isinstance(gate, EvidenceGate)]
    assert score
    if not gates or score.champion is None:
        return None
    # As the ledger stood when the league scored; what has come since supersedes this night.
    entries = [entry for entry in ctx.services.ledger.entries(ctx.pipeline.name) if entry.seq <= score.reign]
    head = reign(entries)
    assert head, "a champion has an entry"
    lane: Lane = "refresh" if score.champion.recipe_spec == ctx.night.recipe_spec else "recipe"
    certified = certification(entries, ctx.night.recipe) if lane == "refresh" else None
    found = Trial(
        lane=lane,
        certified_by=certified.seq if certified else None,
        fleets={gate.fleet: members(ctx, gate.fleet) for gate in gates if gate.fleet},
        cutoff=cutoff,
    )
    if all(found.automatic(gate) for gate in gates):
        return found
    scores = _scores(ctx, score.champion, head.judged_through)
    days: tuple[TrialDay, ...] = ()
    serving = ""
    if cutoff >= head.judged_through:  # a night of the past adds nothing to the reign of now
        days, serving = _trial_days(ctx, score.champion, lane, gates, head.judged_through, fit=fit)
    usual = usual_differences(ctx, score.champion)
    losses = dict.fromkeys(gate.loss for gate in gates)
    tried = {loss: _tried(days, loss, score.champion, usual) for loss in losses}
    league = {loss: _league(ctx, scores, loss, score.champion, usual) for loss in losses}
    if lane == "recipe" and not serving:
        evidence = tried
    else:
        walked = max((d.day for d in days), default=date.min)
        evidence = {loss: (*tried[loss], *(e for e in league[loss] if e.day > str(walked))) for loss in losses}
    return found.model_copy(
        update={
            "serving": serving,
            "evidence": evidence,
            "without": tuple(f"{d.day}: {d.problem}" for d in days if d.problem),
            "shadows": _shadows(ctx, scores, score.champion, _sent_back(entries)),
        }
    )


# The league: what versions have scored in shadow.


def _scores(ctx: Context, champion: ModelVersion, after: date) -> dict[date, dict[int, DayScore]]:
    """Return the losses of the champion and of the recipe's challengers on the days that this reign may use."""
    night, store, name = ctx.night, ctx.services.store, ctx.pipeline.name
    assert night.score
    wanted = {champion.version, *(v.version for v in _rivals(ctx, champion))}
    found = [
        DayScore.model_validate_json(store.get(stored.uri))
        for stored in store.list(layout.evidence(name))
        for day, version in (layout.scored_place(stored.uri),)
        if version in wanted and after < day <= ctx.windows.newest
    ]
    days: dict[date, dict[int, DayScore]] = {}
    for score in (*night.score.scores, *found):  # what was stored first stands; a dry run stores nothing
        if score.version in wanted and after < score.day <= ctx.windows.newest:
            days.setdefault(score.day, {})[score.version] = score
    return dict(sorted(days.items()))


def _rivals(ctx: Context, champion: ModelVersion) -> list[ModelVersion]:
    """Return the challengers of tonight's recipe that were made since the champion, newest first."""
    # What other recipes have earned says nothing for tonight's.
    made = [v for v in ctx.services.registry.versions(ctx.pipeline.name) if v.recipe == ctx.night.recipe]
    rivals = [v for v in made if champion.cutoff < v.cutoff < ctx.night.request.cutoff]
    return sorted(rivals, key=lambda v: (v.cutoff, v.version), reverse=True)


def _league(
    ctx: Context,
    scores: Mapping[date, Mapping[int, DayScore]],
    loss: Loss,
    champion: ModelVersion,
    usual: Mapping[str, float],
) -> tuple[Evidence, ...]:
    """Return the reign's daily differences: the champion against the newest challenger made before each day."""
    rivals = _rivals(ctx, champion)
    evidence = []
    for day, by in scores.items():
        rival = next((v for v in rivals if v.cutoff < day and v.version in by and loss in by[v.version].losses), None)
        champions = by.get(champion.version)
        pair = over_common_rows(ctx, champions, by[rival.version]) if champions and rival else None
        if pair and rival and loss in pair[0].losses:
            ours, theirs = pair
            difference = ours.losses[loss] - theirs.losses[loss]
            evidence.append(
                Evidence(
                    day=str(day),
                    rows=ours.rows,
                    champion=champion.version,
                    challenger=rival.version,
                    difference=difference,
                    scale=usual[loss],
                )
            )
    return tuple(evidence)


def _shadows(
    ctx: Context, scores: Mapping[date, Mapping[int, DayScore]], champion: ModelVersion, gone: frozenset[int]
) -> tuple[Shadow, ...]:
    """Return the last challengers of the recipe that have scored a day, and whether their own nights, or a rollback, spoke
    against them.
    """  # noqa: D205  one sentence
    found = []
    for version in _rivals(ctx, champion)[:_SHADOWS]:
        days = {str(day): dict(by[version.version].losses) for day, by in scores.items() if version.version in by}
        if days:
            sound = version.version not in gone and _sound(ctx, version)
            found.append(Shadow(version=version, sound=sound, days=days))
    return tuple(found)


def _sent_back(entries: Sequence[LedgerEntry]) -> frozenset[int]:
    """Return the versions that served until a rollback took back the turns by which they did."""
    served, standing = (
        {entry.champion.version for entry in turns if entry.action in TURNS and entry.champion}
        for turns in (entries, line(entries))
    )
    return frozenset(served - standing)


def _sound(ctx: Context, version: ModelVersion) -> bool:
    """Say whether every check of a version's own night passed, but for the evidence, which the nights share.

    A gate that stands in the spec only since then has not spoken for it.
    """
    key = layout.step(ctx.pipeline.name, version.run_key, "gate.json", dry_run=False)
    try:
        verdict = GateResult.model_validate_json(ctx.services.store.get(key)).verdict
    except (ObjectNotFound, ValidationError):
        return False  # it was not judged to the end
    checks = [c for c in verdict.checks if c.kind != "evidence"]
    asked = {(gate.kind, gate.name) for gate in ctx.pipeline.spec.gates if not isinstance(gate, EvidenceGate)}
    passed = all(c.outcome in {Outcome.PASS, Outcome.NOT_APPLICABLE} for c in checks)
    return passed and asked <= {(c.kind, c.name) for c in checks}


def usual_differences(ctx: Context, champion: ModelVersion) -> dict[str, float]:
    """Return a fiftieth of the champion's own losses when it was evaluated: known before any day of its reign, as the bets need."""
    key = layout.step(ctx.pipeline.name, champion.run_key, "evaluate.json", dry_run=False)
    was: dict[Loss, float | None] = {}
    try:
        evaluated = EvaluateResult.model_validate_json(ctx.services.store.get(key))
    except (ObjectNotFound, ValidationError):
        pass  # it was not made here
    else:
        found = evaluated.challenger
        was = {
            # Not the metric, which does not clip: a few confident errors would be most of it.
            "log_loss": _lost(evaluated, "log_loss") or found.get("log_loss"),
            "brier": found.get("brier"),
            "zero_one": _lost(evaluated, "zero_one") or 1 - (found.get("accuracy") or 0.0),
            "squared_error": (found.get("rmse") or 0.0) ** 2,
            "absolute_error": found.get("mae"),
            "pinball": found.get("pinball"),
            "ndcg_loss": 1 - (found.get("ndcg") or 0.0),
        }
    return {loss: _USUAL * (was.get(loss) or 1.0) for loss in LOSSES[ctx.pipeline.spec.target.task]}


def _lost(evaluated: EvaluateResult, loss: Loss) -> float | None:
    """Return a model's mean loss as it was measured beside the average, where it was measured by this loss."""
    days = evaluated.case.baselines.get("average", {}).get(loss, ())
    rows = sum(day.rows for day in days)
    return sum(day.rows * day.challenger for day in days) / rows if rows else None


# The trial: models fitted as nights of the past would have fitted them.


def _tried(
    days: Sequence[TrialDay], loss: Loss, champion: ModelVersion, usual: Mapping[str, float]
) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            day=str(d.day),
            rows=d.rows,
            champion=champion.version,
            challenger=0,
            difference=d.champion[loss] - d.challenger[loss],
            scale=usual[loss],
            replayed=d.day < d.last,
        )
        for d in days
        if not d.problem and loss in d.champion and loss in d.challenger
    )


def _trial_days(
    ctx: Context,
    champion: ModelVersion,
    lane: Lane,
    gates: Sequence[EvidenceGate],
    judged_through: date,
    *,
    fit: bool,
) -> tuple[tuple[TrialDay, ...], str]:
    """Return the trial's days in this reign, those that are missing made now; or why a recipe cannot be tried."""
    theirs, why = (ctx.pipeline, "") if lane == "refresh" else _recipe_of(ctx, champion)
    if theirs is None:
        return (), why
    there, earlier = _recorded(ctx, lane)
    if not fit:
        return tuple(day for day in there if day.day <= ctx.windows.newest), ""
    newest = ctx.windows.newest
    half = max(((ctx.windows.fit.last - ctx.windows.fit.first).days + 1) // 2, 1)
    reach = newest - timedelta(days=half - 1)  # so far back that half of the days to fit on are left
    back = min(half, *(gate.backfill_days for gate in gates))
    if there:
        first, last = there[0].first, there[0].last
    elif lane == "refresh" and (earlier or not back):
        return (), ""  # the past is replayed once in a recipe's life
    else:
        first, last = newest - timedelta(days=max(back, 1) - 1), newest
        if earlier:
            first = max(judged_through + DAY, reach)
    met = _met(ctx, theirs)
    arms = _Arms(ctx, theirs, held_at=first - 2 * DAY if lane == "refresh" else None)
    labelled = set(frames.feature_frame(ctx, ctx.pipeline.sql).table["dt"].unique().to_pylist())
    done = {d.day: d for d in there}
    wanted = [
        day
        for day in Span(first=first, last=last if lane == "refresh" else newest).days()
        if day not in done and reach <= day <= newest and day in labelled and (lane == "refresh" or day > met)
    ]
    what = "refreshing against holding" if lane == "refresh" else "the recipe against the champion's"
    for i, day in enumerate(wanted, start=1):
        ctx.say(f"trying {what}: {day} ({i} of {len(wanted)})")
        made = arms.day(day, TrialDay(day=day, lane=lane, first=first, last=last))
        done[day] = _keep(ctx, made)
        if made.problem:
            ctx.say(f"{day} makes no evidence: {made.problem}")
    return tuple(done[day] for day in sorted(done) if day <= newest), ""


def _met(ctx: Context, theirs: Pipeline) -> date:
    """Return the newest day by which tonight's parameters were chosen over the champion's: days up to it speak for them anyhow.

    Where both are the same, the days speak for both alike. A segment's champion may have others than that of all rows.
    """
    tuned, tuning = ctx.night.tune, ctx.pipeline.spec.training.tuning
    if tuned is None or tuning is None or tuned.seen_through is None:
        return date.min
    mine, others = ({k: p.get(k) for k in tuning.space} for p in (tuned.params, theirs.spec.training.params))
    return tuned.seen_through if mine != others else date.min


def _recorded(ctx: Context, lane: Lane) -> tuple[list[TrialDay], bool]:
    """Return the trial's recorded days in this reign, and whether an earlier reign has tried the recipe in this lane."""
    store, name, recipe = ctx.services.store, ctx.pipeline.name, ctx.night.recipe
    assert ctx.night.score
    here = layout.trial(name, ctx.night.score.reign, recipe)
    keys = [stored.uri for stored in store.list(layout.trials(name)) if f"/{recipe[:16]}/" in stored.uri]
    mine = [TrialDay.model_validate_json(store.get(key)) for key in keys if here in key]
    others = {key.rpartition("/")[0]: key for key in keys if here not in key}
    earlier = any(TrialDay.model_validate_json(store.get(key)).lane == lane for key in others.values())
    return sorted(mine, key=lambda d: d.day), earlier


def _keep(ctx: Context, made: TrialDay) -> TrialDay:
    """Record a day once; where another run was faster its record is the one."""
    if ctx.night.request.dry_run:
        return made
    assert ctx.night.score
    key = layout.trial_day(ctx.pipeline.name, ctx.night.score.reign, ctx.night.recipe, made.day)
    try:
        ctx.services.store.create(key, made.model_dump_json(indent=1).encode())
    except AlreadyExists:
        return TrialDay.model_validate_json(ctx.services.store.get(key))
    return made


def _recipe_of(ctx: Context, champion: ModelVersion) -> tuple[Pipeline | None, str]:
    """Return the champion's recipe as it was declared, or why it cannot be fitted on tonight's data."""
    found, why = recipe_of(ctx.services, ctx.pipeline.name, champion)
    if found is None:
        return None, why
    why = _unlike(ctx.pipeline.spec, found.spec)
    return (None, why) if why else (found, "")


def _unlike(ours: PipelineSpec, theirs: PipelineSpec) -> str:
    """Say why another recipe cannot be fitted on tonight's snapshot and judged by tonight's labels."""
    if ours.target != theirs.target:
        return "its recipe predicts another target"
    places = {"uri", "format", "partition", "columns", "null_values", "delimiter"}
    same = ours.source.model_dump(include=places) == theirs.source.model_dump(include=places)
    sides = {name: side.model_dump(include=places) for name, side in ours.source.tables.items()}
    if not same or any(sides.get(n) != s.model_dump(include=places) for n, s in theirs.source.tables.items()):
        return "its recipe reads data that tonight's snapshot does not hold"
    if theirs.window.days > ours.window.days:
        return f"its recipe needs {theirs.window.days} days, tonight's snapshot holds {ours.window.days}"
    if theirs.window.label_delay_days < ours.window.label_delay_days:
        return "its recipe does not wait as long for labels"
    return ""


@dataclass
class _Arms:
    """The two sides of a trial on tonight's snapshot.

    Args:
        ctx: the night that tries.
        theirs: the champion's recipe.
        held_at: cutoff of the model that is held instead of fitted anew, where refreshing is tried.
    """

    ctx: Context
    theirs: Pipeline
    held_at: date | None
    _frames: dict[tuple[str, date], FeatureFrame] = field(default_factory=dict)
    _held: ModelFiles | Exception | None = None

    def day(self, day: date, empty: TrialDay) -> TrialDay:
        """Fit both sides as the night before a day would have, and let them score it."""
        theirs = replace(self.ctx, pipeline=self.theirs, say=silent)
        ours = replace(self.ctx, say=silent)
        try:
            sides = [
                self._scored(theirs, day, self._hold(theirs) if self.held_at else self._fit(theirs, day - DAY)),
                self._scored(ours, day, self._fit(ours, day - DAY)),
            ]
        except Exception as exc:  # noqa: BLE001  a model of another time may fail in ways of its own
            return empty.model_copy(update={"problem": problem_of(exc)[:300]})
        common = np.intersect1d(sides[0].rows, sides[1].rows)
        losses = [side.means(common) for side in sides]
        if not len(common) or not all(isfinite(loss) for side in losses for loss in side.values()):
            return empty.model_copy(update={"problem": "no row that both sides score, or a loss that is no number"})
        return empty.model_copy(update={"rows": len(common), "champion": losses[0], "challenger": losses[1]})

    def _hold(self, ctx: Context) -> ModelFiles:
        assert self.held_at
        if self._held is None:
            try:
                self._held = self._fit(ctx, self.held_at)
            except Exception as exc:  # noqa: BLE001  told for each day, tried once
                self._held = exc
        if isinstance(self._held, Exception):
            raise self._held
        return self._held

    def _fit(self, ctx: Context, cutoff: date) -> ModelFiles:
        """Fit a recipe as the night of a cutoff would have, on as much of its window as tonight's snapshot holds."""
        days = ctx.pipeline.spec.windows(cutoff)
        first = max(days.fit.first, self.ctx.windows.whole.first)
        if self.held_at:  # both sides learn from equally many days: it is freshness that is tried, not size
            held = ctx.pipeline.spec.windows(self.held_at).fit
            length = held.last - max(held.first, self.ctx.windows.whole.first)
            first = max(first, days.fit.last - length)
        days = days.model_copy(update={"fit": Span(first=first, last=days.fit.last)})
        frame = self._frame(ctx, days.newest)
        cut = frame.model_copy(update={"table": frames.of_days(frame, first, days.newest)})
        return refitted(ctx, cut, days, fitted(ctx, cut, days)).files

    def _scored(self, ctx: Context, day: date, files: ModelFiles) -> _Side:
        table = frames.of_days(self._frame(ctx, day), day, day)
        if not table.num_rows:
            raise DataRejected("empty", f"no labelled row of {day}")
        trainer, rows = ctx.services.trainer, table["row_id"].to_numpy()
        return _Side(ctx, rows, trainer.labels(files, table), trainer.predict(files, table), lists_in(table))

    def _frame(self, ctx: Context, last: date) -> FeatureFrame:
        """Return the features as the query gave them when ``last`` was the newest day; those of two days are kept."""
        spec = ctx.pipeline.spec
        recipe = digest([ctx.pipeline.sql, spec.source.model_dump(mode="json"), spec.target.sql, spec.target.group])
        if (recipe, last) not in self._frames:
            self._frames = {(r, day): frame for (r, day), frame in self._frames.items() if last - day <= 2 * DAY}
            self._frames[recipe, last] = frames.feature_frame_through(ctx, ctx.pipeline.sql, last)
        return self._frames[recipe, last]


@dataclass
class _Side:
    """One side's predictions of a day."""

    ctx: Context
    rows: Any  # row ids
    y: Floats
    predictions: Floats
    lists: Any  # of a ranking, the number of each row's list

    def means(self, common: Any) -> dict[str, float]:
        """Return the mean losses over some rows."""
        here, how = np.isin(self.rows, common), self.ctx.pipeline.spec.measuring
        lists = None if self.lists is None else self.lists[here]
        return {loss: mean_loss(loss, self.y[here], self.predictions[here], how, lists) for loss in LOSSES[how.task]}
