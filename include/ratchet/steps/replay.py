"""Replay: history as if each night were tonight, by the real steps in a world of its own, and what it would have been worth.

A night's challenger does not depend on who serves. So all challengers are fitted ahead, in parallel, in a *scratch* world;
then the nights are run whole and in order in the *nights* world, where each fit is found done.
"""

from __future__ import annotations

import io
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.domain.gates import LOSSES, METRICS, BoundGate, EvidenceGate, Loss
from ratchet.domain.ledger import champion_of, reign
from ratchet.domain.losses import daily_losses
from ratchet.domain.night import NightRequest, StepName
from ratchet.domain.policies import (
    DayLosses,
    Figures,
    Period,
    PlayedNight,
    PolicyDay,
    Replayed,
    by_month,
    comparable,
    mean_loss,
    schedules,
    turns,
)
from ratchet.domain.promotion_rules import Approval
from ratchet.domain.records import Record
from ratchet.errors import NightSkipped, ObjectNotFound, RatchetError, UsageError
from ratchet.steps import frames
from ratchet.steps.champion import problem_of, refuse_strange
from ratchet.steps.context import Context
from ratchet.steps.night import begin, run_night, run_step
from ratchet.tables import lists_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ratchet.domain.night import Night
    from ratchet.domain.policies import PolicyName, Range, Schedule
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services
    from ratchet.steps.crew import Crew, Worlds
    from ratchet.tables import Floats

    Watch = Callable[[str, int, int, str], None]  # what is done, how much of how much, and the newest of it

SCRATCH, NIGHTS = "scratch", "nights"


class _Look(NamedTuple):
    """A night to be prepared up to a step."""

    pipeline: Pipeline
    cutoff: date
    through: StepName


class _Days(NamedTuple):
    """Days to be scored on the data of one night, by every version that was made before them."""

    pipeline: Pipeline
    cutoff: date
    first: date
    last: date
    loss: Loss
    classes: tuple[str, ...]


class _Scores(Record):
    """What came of scoring some days."""

    days: tuple[DayLosses, ...]
    problems: tuple[str, ...]


def replay(pipeline: Pipeline, wanted: Range, crew: Crew, watch: Watch) -> Replayed:
    """Run the nights of a range and weigh what they decided.

    What was done before in the same worlds is found there: a replay that was killed goes on where it was.
    Where the spec asks for a person's approval, it is taken as given.

    Raises:
        UsageError: the range holds no night; or the pipeline is a segment's whose parameters are searched on all rows.
        RatchetError: a night failed for another reason than its data.
    """
    if not wanted.cutoffs:
        raise UsageError(f"from {wanted.first} to {wanted.last} there is no night; give the earlier date first")
    if pipeline.segment and pipeline.spec.training.tuning:
        why = "a segment's nights take the parameters that those of all rows have found, and a replay of it alone would search for others"
        raise UsageError(f"{pipeline.name}: {why}; replay {pipeline.spec.name}")
    pipeline = pipeline.model_copy(update={"spec": pipeline.spec.model_copy(update={"approval": Approval()})})
    services = crew.worlds(NIGHTS)
    _prepare(pipeline, wanted, crew, watch)
    nights = list(_play(pipeline, wanted, services, watch))
    loss = watched_loss(pipeline)
    scores = _score(pipeline, nights, wanted, loss, crew, watch)
    return _weigh(pipeline, wanted, nights, loss, scores, services)


def watched_loss(pipeline: Pipeline) -> Loss:
    """Return the loss that the policies are compared by: the evidence gate's, or the first that a gate names."""
    named = sorted(
        (g for g in pipeline.spec.gates if getattr(g, "loss", None)), key=lambda g: not isinstance(g, EvidenceGate)
    )
    found: Loss = getattr(named[0], "loss") if named else LOSSES[pipeline.spec.target.task][0]  # noqa: B009  not of all kinds
    return found


def watched_metric(pipeline: Pipeline) -> str:
    """Return the metric that is shown beside the loss: the first that a gate bounds over all rows."""
    bounded = [g.metric for g in pipeline.spec.gates if isinstance(g, BoundGate) and not g.slice]
    return bounded[0] if bounded else METRICS[pipeline.spec.target.task][0]


def _prepare(pipeline: Pipeline, wanted: Range, crew: Crew, watch: Watch) -> None:
    """Validate and fit ahead. What goes wrong here goes wrong again in the night itself, and is told there."""
    services = crew.worlds(NIGHTS)
    missing = [c for c in wanted.cutoffs if _kept(services, _night(c)) is None]
    apart: list[date] = []  # nights whose windows hardly overlap, so that no partition is validated twice
    for cutoff in missing:
        if not apart or (cutoff - apart[-1]).days >= pipeline.spec.window.days or cutoff == missing[-1]:
            apart.append(cutoff)
    rounds: tuple[tuple[str, StepName, Sequence[date]], ...] = (
        ("validating", "validate", apart),
        # Where parameters are tuned, those of a night are not known before it is run.
        *((("fitting", "train", missing),) if pipeline.spec.training.tuning is None else ()),
    )
    for name, through, cutoffs in rounds:
        watch(name, 0, len(cutoffs), "")
        looks = [_Look(pipeline, cutoff, through) for cutoff in cutoffs]
        for done, (look, _) in enumerate(crew.each(_look, looks), start=1):
            watch(name, done, len(cutoffs), str(look.cutoff))


def _look(worlds: Worlds, look: _Look) -> None:
    try:
        night = _begun(worlds(SCRATCH), look.pipeline, look.cutoff)
        if look.through == "train" and not night.ended:
            run_step("train", night, look.pipeline, worlds(SCRATCH))
    except RatchetError:
        return


def _begun(services: Services, pipeline: Pipeline, cutoff: date) -> Night:
    """Return a night whose data is pinned and validated."""
    night = begin(NightRequest(pipeline=pipeline.name, cutoff=cutoff, actor="replay"), pipeline)
    for step in ("snapshot", "validate"):
        if not night.ended:
            night = run_step(step, night, pipeline, services)
    return night


def _play(pipeline: Pipeline, wanted: Range, services: Services, watch: Watch) -> Iterator[PlayedNight]:
    """Run the nights whole and in order, as they would have come."""
    champion, cutoffs = None, wanted.cutoffs
    watch("deciding", 0, len(cutoffs), "")
    for done, cutoff in enumerate(cutoffs, start=1):
        kept = _kept(services, _night(cutoff))
        if kept is None:
            played = _play_one(pipeline, cutoff, champion, services)
            services.store.put(_night(cutoff), played.model_dump_json(indent=1).encode())
        else:
            played = PlayedNight.model_validate_json(kept)
        champion = played.champion
        watch("deciding", done, len(cutoffs), f"{cutoff} {played.outcome}")
        yield played


def _play_one(pipeline: Pipeline, cutoff: date, before: int | None, services: Services) -> PlayedNight:
    request = NightRequest(pipeline=pipeline.name, cutoff=cutoff, actor="replay", reason="replayed")
    night, error = run_night(request, pipeline, services)
    if error is not None:
        raise error
    entries = services.ledger.entries(pipeline.name)
    serves, turn = champion_of(entries), reign(entries)
    after = serves.version if serves else None
    return PlayedNight(
        cutoff=cutoff,
        outcome=night.outcome,
        reasons=night.reasons,
        challenger=night.register_.version.version if night.register_ and night.register_.version else None,
        champion=after,
        before=before,
        turned=turn.action if turn and after != before else "",
    )


def _score(
    pipeline: Pipeline, nights: Sequence[PlayedNight], wanted: Range, loss: Loss, crew: Crew, watch: Watch
) -> dict[date, _Scores]:
    """Let every version score every later day, on the data of the first night that has the day's labels."""
    services = crew.worlds(NIGHTS)
    first = next((night.cutoff for night in nights if night.champion is not None), None)
    if first is None:
        return {}
    # A night that had to be skipped has no data to score on; the next one covers its days.
    with_data = {n.cutoff for n in nights if n.challenger is not None and n.cutoff > first} | {wanted.last}
    classes = _classes(services, pipeline)
    items, begun = [], first + timedelta(days=1)
    for cutoff in sorted(with_data):
        newest = pipeline.spec.windows(cutoff).newest
        if newest >= begun:
            items.append(_Days(pipeline, cutoff, begun, newest, loss, classes))
            begun = newest + timedelta(days=1)
    watch("scoring", 0, len(items), "")
    found: dict[date, _Scores] = {}
    for done, (item, scores) in enumerate(crew.each(_score_days, items), start=1):
        found[item.cutoff] = scores
        watch("scoring", done, len(items), f"{item.first} … {item.last}")
    return found


def _score_days(worlds: Worlds, item: _Days) -> _Scores:
    kept = _kept(worlds(NIGHTS), _scores(item.cutoff, item.loss, "json"))
    if kept is not None:
        return _Scores.model_validate_json(kept)
    pipeline, scratch, store = item.pipeline, worlds(SCRATCH), worlds(NIGHTS).store
    try:
        night = _begun(scratch, pipeline, item.cutoff)
        if night.ended:
            raise NightSkipped(night.ended.reason, night.ended.detail)
        frame = frames.feature_frame(Context(pipeline=pipeline, night=night, services=scratch), pipeline.sql)
    except RatchetError as exc:
        if exc.retryable:
            raise
        return _Scores(days=(), problems=(f"{item.first} … {item.last}: {exc}",))
    table = frames.of_days(frame, item.first, item.last)
    scores, predictions = _by_all(worlds(NIGHTS), item, table)
    out = io.BytesIO()
    pq.write_table(predictions, out)
    store.put(_scores(item.cutoff, item.loss, "parquet"), out.getvalue())
    store.put(_scores(item.cutoff, item.loss, "json"), scores.model_dump_json().encode())
    return scores


def _by_all(services: Services, item: _Days, table: pa.Table) -> tuple[_Scores, pa.Table]:
    """Score rows by every version that was made before the last of them."""
    days = table["dt"].to_numpy().astype("datetime64[D]")
    columns: dict[str, Any] = {"dt": table["dt"]}
    losses: dict[str, dict[int, float]] = {}
    counts: dict[str, int] = {str(day): int((days == day).sum()) for day in np.unique(days)}
    problems, how, lists = [], item.pipeline.spec.measuring, lists_in(table)
    if lists is not None:
        columns["list"] = pa.array(lists)
    for version in services.registry.versions(item.pipeline.name):
        if version.cutoff >= item.last:
            continue
        try:
            _, files = services.registry.download(version.mlflow_run_id, version.artifact_digest)
            refuse_strange(files, how)
            y, p = services.trainer.labels(files, table), services.trainer.predict(files, table)
        except Exception as exc:  # noqa: BLE001  an old model may fail in ways of its own
            problems.append(f"version {version.version} on {item.first} … {item.last}: {problem_of(exc)}")
            continue
        for day, (_, loss) in daily_losses(item.loss, days, y, p, how, lists).items():
            if version.cutoff < date.fromisoformat(day):
                losses.setdefault(day, {})[version.version] = loss
        columns[_column(version.version)] = pa.array(_in_order(p, files.schema_.classes, item.classes))
        columns.setdefault("label", pa.array(_labels(table, y, item.classes)))
    met = tuple(DayLosses(day=date.fromisoformat(d), rows=counts[d], losses=losses.get(d, {})) for d in sorted(counts))
    return _Scores(days=met, problems=tuple(problems)), pa.table(columns)


def _classes(services: Services, pipeline: Pipeline) -> tuple[str, ...]:
    """Return the classes that any version knows, where there are more than two: the order of kept predictions."""
    if pipeline.spec.target.task != "multiclass":
        return ()
    known: set[str] = set()
    for version in services.registry.versions(pipeline.name):
        known.update(services.registry.download(version.mlflow_run_id, version.artifact_digest)[1].schema_.classes)
    return tuple(sorted(known))


def _labels(table: pa.Table, y: Floats, classes: Sequence[str]) -> Any:
    import pyarrow.compute as pc  # noqa: PLC0415

    if not classes:
        return y
    codes = pc.index_in(table["target"].cast(pa.string()), value_set=pa.array(classes, pa.string()))
    return pc.fill_null(codes, -1).to_numpy().astype(np.float64)


def _in_order(predictions: Floats, own: Sequence[str], classes: Sequence[str]) -> Any:
    if not classes:
        return predictions if predictions.ndim == 1 else predictions.tolist()
    ordered = np.zeros((len(predictions), len(classes)))
    for i, name in enumerate(own):
        ordered[:, classes.index(name)] = predictions[:, i]
    return ordered.tolist()


def _weigh(
    pipeline: Pipeline,
    wanted: Range,
    nights: Sequence[PlayedNight],
    loss: Loss,
    scores: Mapping[date, _Scores],
    services: Services,
) -> Replayed:
    """Compare the policies and weigh the turns."""
    days = sorted((day for found in scores.values() for day in found.days), key=lambda day: day.day)
    policies = schedules(nights, days)
    same = comparable(days, policies)
    rows = _Rows(services, pipeline, policies, loss, list(scores))
    return Replayed(
        pipeline=pipeline.name,
        range=wanted,
        gates=tuple(gate.name for gate in pipeline.spec.gates),
        loss=loss,
        metric=watched_metric(pipeline),
        nights=tuple(nights),
        turns=turns(nights, days),
        total=rows.period("all", same) if same else None,
        months=tuple(rows.period(month, part) for month, part in by_month(same).items()),
        days=tuple(
            PolicyDay(
                day=day.day,
                rows=day.rows,
                losses={name: day.losses[served[day.day]] for name, served in policies.items()},
            )
            for day in same
        ),
        left_out=len(days) - len(same),
        problems=tuple(problem for found in scores.values() for problem in found.problems),
    )


class _Day(NamedTuple):
    """The rows of a day."""

    labels: Floats
    predictions: dict[int, Floats]  # by version
    lists: Any  # of a ranking, the number of each row's list


def _numbered(days: Sequence[Any]) -> Any:
    """Return the lists of several days, each of which has numbers of its own; None where rows stand in none."""
    if not days:
        return None
    pairs = np.concatenate([np.column_stack([np.full(len(lists), i), lists]) for i, lists in enumerate(days)])
    return np.unique(pairs, axis=0, return_inverse=True)[1].ravel()


class _Rows:
    """The kept predictions, of those versions that a policy serves with."""

    def __init__(
        self,
        services: Services,
        pipeline: Pipeline,
        policies: Mapping[PolicyName, Schedule],
        loss: Loss,
        cutoffs: Sequence[date],
    ) -> None:
        self._services, self._policies = services, policies
        self._measuring, self._metric = pipeline.spec.measuring, watched_metric(pipeline)
        self._by_day: dict[date, _Day] = {}
        for cutoff in cutoffs:
            kept = _kept(services, _scores(cutoff, loss, "parquet"))
            if kept is not None:
                self._read(kept)

    def _read(self, kept: bytes) -> None:
        table = pq.read_table(io.BytesIO(kept))
        days = table["dt"].to_numpy().astype("datetime64[D]")
        for day in np.unique(days):
            here, at = days == day, date.fromisoformat(str(day))
            wanted = {served[at] for served in self._policies.values() if at in served}
            columns = {v: table[_column(v)].filter(pa.array(here)) for v in wanted if _column(v) in table.column_names}
            self._by_day[at] = _Day(
                labels=table["label"].filter(pa.array(here)).to_numpy() if columns else np.zeros(0),
                predictions={v: np.array(column.to_pylist(), dtype=np.float64) for v, column in columns.items()},
                lists=table["list"].filter(pa.array(here)).to_numpy() if "list" in table.column_names else None,
            )

    def period(self, name: str, days: Sequence[DayLosses]) -> Period:
        """Return every policy's figures over some days."""
        figures = {}
        met = [self._by_day[day.day] for day in days]
        y = np.concatenate([day.labels for day in met])
        lists = _numbered([day.lists for day in met if day.lists is not None])
        for policy, served in self._policies.items():
            p = np.concatenate([self._by_day[day.day].predictions[served[day.day]] for day in days])
            by_row, daily = mean_loss(days, served)
            metric = self._services.trainer.metrics(self._measuring, y, p, lists).get(self._metric)
            figures[policy] = Figures(loss=by_row, loss_by_day=daily, metric=metric)
        return Period(name=name, days=len(days), rows=sum(day.rows for day in days), policies=figures)


def _kept(services: Services, key: str) -> bytes | None:
    try:
        return services.store.get(key)
    except ObjectNotFound:
        return None


def _night(cutoff: date) -> str:
    return f"replay/nights/{cutoff}.json"


def _scores(cutoff: date, loss: Loss, kind: str) -> str:
    return f"replay/scores/{cutoff}-{loss}.{kind}"


def _column(version: int) -> str:
    return f"v{version}"
