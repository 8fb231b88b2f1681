"""tune: search for better parameters when that is due, and say with which ones tonight's challenger is fitted.

A search sees no day that is held out: its trials are fitted to and scored on days before, cut from the frame before anything
looks at it. Trials run in batches; what is tried next depends on what the batches before found, and on nothing else, so that
a search that was killed goes on where it was and finds what it would have found.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.losses import daily_losses
from ratchet.domain.night import TuneResult
from ratchet.domain.records import digest
from ratchet.domain.tuning import (
    Found,
    Incumbent,
    SearchTrial,
    behind,
    between,
    due,
    eta_of,
    grows,
    score_of,
    winner,
)
from ratchet.domain.windows import DAY, Span
from ratchet.errors import AlreadyExists, ObjectNotFound, Problem, ServiceError, ServiceRefused, SpecInvalid
from ratchet.steps import frames
from ratchet.steps.champion import recipe_of
from ratchet.steps.recorded import recorded
from ratchet.steps.train import plan_of
from ratchet.tables import lists_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from ratchet.domain.training_rules import Tuning
    from ratchet.domain.windows import Windows
    from ratchet.ports import Prepared
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Context, Services
    from ratchet.tables import FeatureFrame

_HOPELESS = 3  # trials; where none of so many ends well, none will


def tune(ctx: Context) -> TuneResult:
    """Choose the parameters of tonight's fit.

    Raises:
        SpecInvalid: no trial of a search can be fitted.
        DataRejected: as in train.
    """
    tuning = ctx.pipeline.spec.training.tuning
    if tuning is None:
        given = ctx.pipeline.spec.training.params
        return TuneResult(source="spec", params=given, why="the spec's: it asks for no tuning")
    return recorded(ctx, "tune", TuneResult, lambda: _tune(ctx, tuning))


def _tune(ctx: Context, tuning: Tuning) -> TuneResult:
    training, cutoff = ctx.pipeline.spec.training, ctx.night.request.cutoff
    assert ctx.night.score
    incumbent = _incumbent(ctx, tuning)
    known_before = searches(ctx.services, ctx.pipeline.name, cutoff)
    about = _about(ctx)
    last = known_before[-1] if known_before else None
    search = _Search(ctx, tuning, about, incumbent)
    mine = next((found for found in known_before if found.study == search.study), None)
    why = due(tuning, cutoff, ctx.windows.holdout.first, last, about, ctx.night.score.drift)
    if mine is None and why:
        mine = search.run(why)
    if mine is not None:
        ctx.say(f"searched, because {mine.why}: {mine.won}")
        return _result(ctx, mine, mine.params, "search", f"searched, because {mine.why}: {mine.won}", tonight=True)
    known = last if last and last.about == about else None
    given = {name: training.params[name] for name in tuning.space if name in training.params}
    served = known is not None and _served(ctx, known.params)
    choice = between(tuning, cutoff, known, incumbent, given, served=served)
    ctx.say(f"no search is due; parameters: {choice.why}")
    by = known if choice.source == "search" else _found_by(known_before, choice.params)
    return _result(ctx, by, choice.params, choice.source, choice.why)


def _result(
    ctx: Context, by: Found | None, found: Mapping[str, Any], source: Any, why: str, *, tonight: bool = False
) -> TuneResult:
    return TuneResult(
        source=source,
        params=_effective(ctx.pipeline, found),
        why=why,
        searched=tonight,
        search=layout.search(ctx.pipeline.name, by.cutoff, by.study) if by else "",
        mlflow_url=by.mlflow_url if by and tonight else None,
        trials=by.trials if by and tonight else (),
        days=by.days if by and tonight else (),
        seen_through=by.seen_through if by else None,
    )


def _effective(pipeline: Pipeline, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a fit: the spec's, those that are searched as found; what was found without one leaves it out."""
    training = pipeline.spec.training
    assert training.tuning
    return {**{k: v for k, v in training.params.items() if k not in training.tuning.space}, **found}


def _about(ctx: Context) -> str:
    """Digest what a search is for: the label, the fit, what is searched and where it begins; once that changes, a search is due."""
    spec = ctx.pipeline.spec
    assert spec.training.tuning
    fit = spec.training.model_dump(
        mode="json", exclude={"tuning", "memory_gib", "threads", "device", "engine", "refit"}
    )
    space = spec.training.tuning.model_dump(mode="json", include={"space"})
    return digest([spec.target.model_dump(mode="json"), fit, space])


def _incumbent(ctx: Context, tuning: Tuning) -> Incumbent | None:
    """Return the champion's parameters as its kept recipe has them, those alone that are searched."""
    assert ctx.night.score
    champion = ctx.night.score.champion
    if champion is None:
        return None
    theirs, problem = recipe_of(ctx.services, ctx.pipeline.name, champion)
    if theirs is None:
        return Incumbent(version=champion.version, problem=problem)
    params = theirs.spec.training.params
    return Incumbent(version=champion.version, params={name: params[name] for name in tuning.space if name in params})


def _served(ctx: Context, found: Mapping[str, Any]) -> bool:
    """Say whether a model of tonight's recipe with such parameters has been champion, as the ledger stood when the league scored."""
    assert ctx.night.score
    recipe = ctx.pipeline.with_params(_effective(ctx.pipeline, found)).recipe
    entries = (e for e in ctx.services.ledger.entries(ctx.pipeline.name) if e.seq <= ctx.night.score.reign)
    return any(entry.champion.recipe_spec == recipe for entry in entries if entry.champion)


def searches(services: Services, pipeline: str, through: date = date.max) -> list[Found]:
    """Return what a pipeline's searches up to a night have found, oldest first; what cannot be read is as if it had not been."""
    made = []
    for stored in services.store.list(layout.searches(pipeline)):
        if layout.searched(stored.uri) <= through:
            with suppress(ValidationError):
                made.append(Found.model_validate_json(services.store.get(stored.uri)))
    return made


def _found_by(made: Sequence[Found], params: Mapping[str, Any]) -> Found | None:
    """Return the newest search that found these parameters."""
    return next((found for found in reversed(made) if found.params == params), None)


@dataclass
class _Search:
    """One search.

    Args:
        ctx: the night that searches.
        tuning: what the spec says of it.
        about: digest of what it is for.
        incumbent: the champion's parameters, which are tried first.
    """

    ctx: Context
    tuning: Tuning
    about: str
    incumbent: Incumbent | None
    parent: str = ""  # MLflow run
    trials: list[SearchTrial] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def starts(self) -> list[tuple[Any, dict[str, Any]]]:
        """The trials that are not drawn: the champion's parameters, and the spec's where they are others."""
        given = self.ctx.pipeline.spec.training.params
        ours = {name: given[name] for name in self.tuning.space if name in given}
        theirs = self.incumbent.params if self.incumbent else None
        found = [("champion", theirs)] if theirs is not None else []
        return [*found, *([("spec", ours)] if ours != theirs else [])][: self.tuning.trials]

    @cached_property
    def study(self) -> str:
        """The identity of the search: all that decides it, apart from the time that it has."""
        ctx = self.ctx
        assert ctx.night.snapshot
        assert ctx.services.tuner, "a night that tunes is wired to a tuner"
        settings = self.tuning.model_dump(mode="json", include={"space", "trials", "parallel", "pruning", "days"})
        who = [ctx.pipeline.name, str(ctx.night.request.cutoff), ctx.night.snapshot.digest]
        how = [ctx.pipeline.with_params(_effective(ctx.pipeline, {})).recipe, self.about, settings, self.starts]
        return digest([*who, *how, ctx.pipeline.spec.loss, ctx.night.code_digest, ctx.services.tuner.version])

    @property
    def days(self) -> Windows:
        """The days of the trials: they end where the hold-out begins."""
        windows = self.ctx.windows
        scored = self.tuning.days or len(windows.stop.days())
        stop = Span(first=windows.stop.last - timedelta(days=scored - 1), last=windows.stop.last)
        return windows.model_copy(update={"fit": Span(first=windows.fit.first, last=stop.first - DAY), "stop": stop})

    def run(self, why: str) -> Found | None:
        """Search, and record what was found; None where there are too few rows to fit on, which train will say."""
        ctx, days = self.ctx, self.days
        frame = unheld(frames.feature_frame(ctx, ctx.pipeline.sql), days)
        if frame.count(days.fit) < ctx.pipeline.min_rows:
            return None
        ctx.say(
            f"searching, because {why}: at most {self.tuning.trials} trials, fitted to {days.fit}, scored on {days.stop}"
        )
        plan, query = plan_of(ctx), frames.feature_query(ctx, ctx.pipeline.sql)
        self.parent = self._begun(why)
        try:
            with ctx.services.trainer.prepare(frame, days, plan, query) as prepared:
                self._all(prepared, frame.days(days.stop.first, days.stop.last))
            found = self._found(why, days)
        except Exception:  # the next attempt goes on with this run
            with suppress(ServiceError):
                ctx.services.registry.finish(self.parent, failed=True)
            raise
        self._tell(found)
        return found if ctx.night.request.dry_run else self._keep(found)

    def _all(self, prepared: Prepared, scored: pa.Table) -> None:
        """Try batch by batch, as long as there is time."""
        assert self.ctx.services.tuner
        study = self.ctx.services.tuner.study(self.tuning.space, int(self.study[:8], 16), self.tuning.trials)
        there, starts = self._recorded(), self.starts
        size = self.tuning.parallel
        spent, begun = max((trial.elapsed for trial in there.values()), default=0.0), time.monotonic()
        while (first := len(self.trials)) < self.tuning.trials:
            elapsed = spent + time.monotonic() - begun
            begun_before = any(number in there for number in range(first, first + size))
            if first and not begun_before and elapsed >= self.tuning.minutes * 60:
                self.ctx.say(f"{self.tuning.minutes:g} minutes are over after {first} trials")
                break
            fixed = starts[first : first + size]
            count = len(fixed) or min(size, self.tuning.trials - first)
            asked = fixed or [("drawn", dict(params)) for params in study.ask(count)]
            batch = [_Asked(first + i, origin, params) for i, (origin, params) in enumerate(asked)]
            ended = self._batch(batch, there, prepared, scored, spent - begun)
            if fixed:
                for trial in ended:
                    study.add(trial)
            else:
                study.tell(ended)
            self.trials += ended
            if len(self.trials) >= _HOPELESS and all(trial.state == "failed" for trial in self.trials):
                break

    def _batch(
        self,
        batch: Sequence[_Asked],
        there: Mapping[int, SearchTrial],
        prepared: Prepared,
        scored: pa.Table,
        since: float,
    ) -> list[SearchTrial]:
        """Run what is not recorded of a batch at once, and record each when it ends.

        Matrices on disk are read by one trial at a time; what is asked for, and so what is found, stays the same.
        """
        done = {asked.number: there[asked.number] for asked in batch if asked.number in there}
        missing = [asked for asked in batch if asked.number not in done]
        at_once = 1 if prepared.on_disk else len(batch)  # also where some of it is recorded
        threads = max(plan_of(self.ctx).threads // at_once, 1)
        self._stopping.clear()
        with ThreadPoolExecutor(at_once, thread_name_prefix="trial") as pool:
            running = [pool.submit(self._try, asked, prepared, scored, threads) for asked in missing]
            try:
                for future in as_completed(running):
                    made = future.result()
                    made = made.model_copy(update={"elapsed": round(since + time.monotonic(), 3)})
                    done[made.number] = self._record(made)
            except BaseException:
                self._stopping.set()  # the others end after their round
                raise
        return [done[asked.number] for asked in batch]

    def _try(self, asked: _Asked, prepared: Prepared, scored: pa.Table, threads: int) -> SearchTrial:
        """Fit and score one trial."""
        ctx, trainer, started = self.ctx, self.ctx.services.trainer, time.monotonic()
        params = _effective(ctx.pipeline, asked.params)
        plan = plan_of(ctx).model_copy(update={"params": params, "threads": threads})
        facts: dict[str, Any] = {"number": asked.number, "origin": asked.origin, "params": asked.params}
        facts["eta"], more = eta_of(params), grows(plan.task, params)
        curve: list[float] = []
        given_up = False

        def after(_round: int, value: float) -> bool:
            nonlocal given_up
            curve.append(value)
            given_up = self.tuning.pruning and behind(curve, facts["eta"], self.trials, grows=more)
            return given_up or self._stopping.is_set()

        try:
            fit = trainer.boost(prepared, plan, after)
        except SpecInvalid as exc:
            problem = "; ".join(problem.message for problem in exc.problems)[:300]
            return SearchTrial(**facts, state="failed", problem=problem, seconds=_since(started))
        facts |= {"curve": tuple(curve), "rounds": len(curve) if given_up else fit.files.schema_.best_iteration + 1}
        if given_up:
            return SearchTrial(**facts, state="pruned", seconds=_since(started))
        y, predictions = trainer.labels(fit.files, scored), trainer.predict(fit.files, scored)
        spec, dates = ctx.pipeline.spec, scored["dt"].to_numpy().astype("datetime64[D]")
        by_day = daily_losses(spec.loss, dates, y, predictions, spec.measuring, lists_in(scored))
        losses = {day: loss for day, (_, loss) in by_day.items()}
        score = score_of(losses)
        if score is None:
            return SearchTrial(**facts, state="failed", problem="its loss is no number", seconds=_since(started))
        return SearchTrial(**facts, state="finished", score=score, days=losses, seconds=_since(started))

    def _begun(self, why: str) -> str:
        """Return the search's MLflow run: that of an attempt that was killed, if there was one."""
        ctx, registry = self.ctx, self.ctx.services.registry
        key = layout.search_run(ctx.pipeline.name, ctx.night.request.cutoff, self.study)
        if not ctx.night.request.dry_run:
            with suppress(ObjectNotFound, ServiceRefused):  # somebody may have deleted it
                run_id = ctx.services.store.get(key).decode()
                registry.resume_run(ctx.pipeline.name, self.study, run_id)
                return run_id
        tags = {**self._tags(), "mlflow.note.content": f"A search for parameters, because {why}."}
        run_id = registry.start_run(ctx.pipeline.name, self.study, f"search {ctx.night.request.cutoff}", tags)
        if not ctx.night.request.dry_run:
            ctx.services.store.put(key, run_id.encode(), "text/plain")
        return run_id

    def _tags(self) -> dict[str, str]:
        night = self.ctx.night
        assert night.snapshot
        return {
            "ratchet.pipeline": self.ctx.pipeline.name,
            "ratchet.cutoff": str(night.request.cutoff),
            "ratchet.snapshot": night.snapshot.digest,
            "ratchet.dry_run": str(night.request.dry_run).lower(),
            "ratchet.night": self.ctx.run_key,
        }

    def _recorded(self) -> dict[int, SearchTrial]:
        """Return the trials of attempts before; a run that one of them was about to end is ended."""
        if self.ctx.night.request.dry_run:
            return {}
        store = self.ctx.services.store
        prefix = layout.search_trials(self.ctx.pipeline.name, self.ctx.night.request.cutoff, self.study)
        made = [SearchTrial.model_validate_json(store.get(stored.uri)) for stored in store.list(prefix)]
        for trial in made[-self.tuning.parallel :]:
            with suppress(ServiceRefused):
                self.ctx.services.registry.finish(trial.mlflow_run_id, failed=trial.state == "failed")
        if made:
            self.ctx.say(f"{len(made)} trials were made before; the search goes on after them")
        return {trial.number: trial for trial in made}

    def _record(self, made: SearchTrial) -> SearchTrial:
        """Log a trial and record it once; where another process was faster, its record is the one."""
        ctx, registry = self.ctx, self.ctx.services.registry
        run_id = registry.start_run(
            ctx.pipeline.name,
            self.study,
            f"trial {made.number}",
            {**self._tags(), "ratchet.trial": made.state},
            self.parent,
        )
        made = made.model_copy(update={"mlflow_run_id": run_id})
        registry.log(
            run_id,
            params={name: str(value) for name, value in made.params.items()},
            metrics={
                **({ctx.pipeline.spec.loss: made.score} if made.score is not None else {}),
                "rounds": made.rounds,
                "seconds": made.seconds,
            },
            curves={"stop": [value for value in made.curve if isfinite(value)]},
            tags={"ratchet.problem": made.problem} if made.problem else None,
        )
        shown = f"{ctx.pipeline.spec.loss} {made.score:.6g}" if made.score is not None else made.problem or "given up"
        ctx.say(f"trial {made.number} of at most {self.tuning.trials}: {made.state}, {made.rounds} rounds, {shown}")
        if not ctx.night.request.dry_run:
            key = layout.search_trial(ctx.pipeline.name, ctx.night.request.cutoff, self.study, made.number)
            try:
                ctx.services.store.create(key, made.model_dump_json(indent=1).encode())
            except AlreadyExists:
                registry.discard(run_id)
                return SearchTrial.model_validate_json(ctx.services.store.get(key))
        registry.finish(run_id, failed=made.state == "failed")
        return made

    def _found(self, why: str, days: Windows) -> Found:
        won = winner(self.trials)
        if won is None:
            said = self.trials[0].problem or "no trial ended"
            file = f"pipelines/{self.ctx.pipeline.spec.name}.yaml"
            words = f"none of {len(self.trials)} trials could be fitted and scored; the first: {said}"
            raise SpecInvalid([Problem(file, "training.tuning", words)])
        best, said = won
        return Found(
            study=self.study,
            about=self.about,
            cutoff=self.ctx.night.request.cutoff,
            newest=self.ctx.windows.newest,
            seen_through=days.stop.last,
            days=tuple(sorted(best.days)),
            params=best.params,
            why=why,
            won=f"{said} ({self._counts()})",
            trials=tuple(trial.told for trial in self.trials),
            mlflow_run_id=self.parent,
            mlflow_url=self.ctx.services.registry.run_url(self.ctx.pipeline.name, self.parent),
        )

    def _counts(self) -> str:
        states = [trial.state for trial in self.trials]
        parts = [f"{states.count(state)} {state}" for state in ("pruned", "failed") if state in states]
        return ", ".join([f"{len(states)} trial{'s' if len(states) != 1 else ''}", *parts])

    def _tell(self, found: Found) -> None:
        """End the search's MLflow run."""
        registry = self.ctx.services.registry
        best = next(trial for trial in found.trials if trial.params == found.params and trial.score is not None)
        registry.log(
            self.parent,
            params={name: str(value) for name, value in found.params.items()},
            metrics={f"best.{self.ctx.pipeline.spec.loss}": best.score or 0.0, "trials": len(found.trials)},
            tags={"ratchet.won": found.won},
        )
        registry.finish(self.parent)

    def _keep(self, found: Found) -> Found:
        key = layout.search(self.ctx.pipeline.name, found.cutoff, found.study)
        try:
            self.ctx.services.store.create(key, found.model_dump_json(indent=1).encode())
        except AlreadyExists:
            return Found.model_validate_json(self.ctx.services.store.get(key))
        return found


@dataclass(frozen=True)
class _Asked:
    """A trial that is to be made."""

    number: int
    origin: Any
    params: dict[str, Any]


def unheld(frame: FeatureFrame, days: Windows) -> FeatureFrame:
    """Return a frame without any row of the hold-out, or of a later day: what a search is given."""
    cut = frame.model_copy(update={"table": frame.days(date.min, days.stop.last)})
    newest = pc.max(cut.table["dt"]).as_py()
    assert days.stop.last < days.holdout.first, "trials are scored on days before the hold-out"
    assert newest is None or newest < days.holdout.first, "no row of the hold-out reaches a search"
    return cut


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
