"""What if: recorded nights judged by other gates, from what they left behind. Nothing is trained, and nothing is written.

Each night is judged against the champion that served it then. What would have followed from another decision is not played
on: another champion would have met other challengers, which only a replay can tell.
"""

from __future__ import annotations

import io
import json
from datetime import date
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.case import BaselineDay, DayLoss, MetricValue, MustBeat, SharedMetric
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.gates import (
    AgeGate,
    Baseline,
    BaselineGate,
    BaseRateGate,
    BoundGate,
    CalibrationGate,
    ChampionGate,
    CostGate,
    DriftGate,
    EvidenceGate,
    HealthGate,
    SliceGapGate,
    SlicesGate,
    StabilityGate,
    baseline_key,
)
from ratchet.domain.losses import daily_losses
from ratchet.domain.measuring import AT_A_POINT
from ratchet.domain.night import Night
from ratchet.domain.records import Record
from ratchet.domain.verdict import SMOKE_TEST, judge
from ratchet.errors import ObjectNotFound, SpecInvalid
from ratchet.steps import trial
from ratchet.steps.business import PREFIX, beside, columns_told
from ratchet.steps.context import Context
from ratchet.steps.measures import moved

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ratchet.domain.case import CaseForPromotion
    from ratchet.domain.evidence import Trial
    from ratchet.domain.gates import Gate, Loss
    from ratchet.domain.measuring import Measuring
    from ratchet.domain.verdict import Verdict
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services
    from ratchet.tables import Floats

_SLICE = "slice:"  # before the name of a column that was told apart, among the predictions


class Judged(Record):
    """One night under the gates of then and under others."""

    cutoff: date
    run_key: str
    version: int | None  # its challenger
    champion: int | None  # who served then
    was: Outcome
    reasons: tuple[str, ...]
    would: Outcome
    would_reasons: tuple[str, ...]
    checks: tuple[Check, ...]  # by the other gates

    @property
    def flips(self) -> bool:
        """Whether the verdict would have been another."""
        return self.was is not self.would


class WhatIf(Record):
    """All nights that were judged, oldest first."""

    pipeline: str
    gates: tuple[str, ...]
    nights: tuple[Judged, ...]
    without_verdict: int  # nights that ended before they were judged
    unreadable: int  # records that another version of Ratchet wrote differently

    @property
    def flips(self) -> tuple[Judged, ...]:
        """The nights whose verdict would have been another."""
        return tuple(night for night in self.nights if night.flips)


def whatif(pipeline: Pipeline, services: Services, first: date | None = None, last: date | None = None) -> WhatIf:
    """Judge the recorded nights of a range by the pipeline's gates; dry runs are left out."""
    judged, without, unreadable = [], 0, 0
    for stored in services.store.list(layout.nights(pipeline.name)):
        try:
            night = Night.model_validate_json(services.store.get(stored.uri))
        except ValidationError:
            unreadable += 1
            continue
        cutoff = night.request.cutoff
        if night.request.dry_run or (first and cutoff < first) or (last and cutoff > last):
            continue
        if night.gate is None or night.evaluate is None:
            without += 1
        else:
            judged.append(_again(Context(pipeline=pipeline, night=night, services=services), night.gate.verdict))
    return WhatIf(
        pipeline=pipeline.name,
        gates=tuple(gate.name for gate in pipeline.spec.gates),
        nights=tuple(sorted(judged, key=lambda night: night.cutoff)),
        without_verdict=without,
        unreadable=unreadable,
    )


def _again(ctx: Context, was: Verdict) -> Judged:
    night, gates = ctx.night, ctx.pipeline.spec.gates
    assert night.evaluate
    cost = night.register_.cost if night.register_ else None
    case, missing = _completed(ctx, night.evaluate.case.model_copy(update={"cost": cost}), gates)
    tried = next((check for check in was.checks if SMOKE_TEST in {check.kind, check.name}), None)
    would = judge(case.model_copy(update={"smoke": tried}), gates)
    version = night.register_.version if night.register_ else None
    return Judged(
        cutoff=night.request.cutoff,
        run_key=night.run_key or "",
        version=version.version if version else None,
        champion=night.score.champion.version if night.score and night.score.champion else None,
        was=was.outcome,
        reasons=was.reasons,
        would=would.outcome,
        would_reasons=(*would.reasons, *missing),
        checks=would.checks,
    )


def _completed(ctx: Context, case: CaseForPromotion, gates: tuple[Gate, ...]) -> tuple[CaseForPromotion, list[str]]:
    """Add to a night's case what it did not need then and its stored predictions can tell; say what they cannot."""
    predictions = _Predictions(ctx)
    missing = []
    if case.must_beat:
        case, why = _asked(ctx, case, case.must_beat, predictions)
        missing += [why] if why else []
    for gate in gates:
        case = _recomputed(ctx, case, gate, predictions)
        if not _has(gate, case):
            missing.append(f"{gate.name}: the night has not recorded what this needs, nor can its predictions tell")
    gathered, why = _trial(ctx, case, [gate for gate in gates if isinstance(gate, EvidenceGate)])
    return case.model_copy(update={"trial": gathered}), missing + ([why] if why else [])


def _asked(
    ctx: Context, case: CaseForPromotion, then: MustBeat, predictions: _Predictions
) -> tuple[CaseForPromotion, str]:
    """Ask for the baselines that this spec chooses, and for those of then that no spec does, by this spec's loss where it can be told."""
    spec = ctx.pipeline.spec
    chosen = {baseline_key(name) for name in get_args(Baseline)}
    names = [baseline_key(name) for name in spec.evaluation.baselines]
    names += [name for name in then.baselines if name not in chosen]
    found = {**case.baselines, **predictions.average(spec.loss, case)}
    unknown = [name for name in names if spec.loss not in found.get(name, {}) and then.loss in found.get(name, {})]
    asked = MustBeat(loss=then.loss if unknown else spec.loss, baselines=tuple(names))
    why = f"baselines by {then.loss}, as then: by {spec.loss} that night has not recorded {', '.join(unknown)}"
    return case.model_copy(update={"baselines": found, "must_beat": asked}), why if unknown else ""


def _recomputed(ctx: Context, case: CaseForPromotion, gate: Gate, predictions: _Predictions) -> CaseForPromotion:
    """Add to a case what one gate needs and the predictions, or the ledger, tell."""
    added: dict[str, Any] = {}
    if isinstance(gate, BoundGate):
        if _key(gate) not in case.metrics or gate.metric in AT_A_POINT or gate.metric.startswith(PREFIX):
            added["metrics"] = {**case.metrics, **predictions.metrics(gate)}
    elif isinstance(gate, BaselineGate) and "average" in gate.baselines:
        added["baselines"] = {**case.baselines, **predictions.average(gate.loss, case)}
    elif not case.champion:
        pass
    elif isinstance(gate, ChampionGate) and gate.loss not in case.paired:
        added["paired"] = {**case.paired, gate.loss: predictions.paired(gate.loss)}
    elif isinstance(gate, StabilityGate) and gate.key not in case.flips:
        added["flips"] = {**case.flips, **predictions.flips(gate)}
    elif isinstance(gate, SlicesGate) and not _has(gate, case):
        added["slices"] = {**case.slices, gate.column: predictions.slices(gate)}
    elif isinstance(gate, SliceGapGate) and gate.margin is not None and not _has(gate, case):
        added["shared"] = {**case.shared, **predictions.shared(gate)}
    elif isinstance(gate, AgeGate) and case.served_days is None:
        added["served_days"] = _served(ctx)
    return case.model_copy(update=added)


def _key(gate: BoundGate) -> str:
    return f"{gate.metric}[{gate.slice}]" if gate.slice else gate.metric


def _served(ctx: Context) -> int | None:
    """Return the days from the newest one that the champion of then was judged by to the night's cutoff."""
    assert ctx.night.score
    reign = ctx.night.score.reign
    entry = next((e for e in ctx.services.ledger.entries(ctx.pipeline.name) if e.seq == reign), None)
    return (ctx.night.request.cutoff - entry.judged_through).days if entry else None


class _Sides(NamedTuple):
    """Both models on the hold-out."""

    days: Any
    y: Floats
    challenger: Floats
    champion: Floats | None  # NaN on rows that it had seen
    slices: dict[str, Any]  # the values of the columns that were told apart
    measuring: Measuring
    lists: Any  # of a ranking, the number of each row's list
    classes: tuple[str, ...]  # of a multiclass task, their names

    def of(self, here: Any) -> _Sides:
        """Return some of the rows."""
        champion, lists = (None if part is None else part[here] for part in (self.champion, self.lists))
        slices = {name: values[here] for name, values in self.slices.items()}
        return self._replace(
            days=self.days[here],
            y=self.y[here],
            challenger=self.challenger[here],
            champion=champion,
            slices=slices,
            lists=lists,
        )

    def daily(self, loss: Loss, predictions: Floats) -> dict[str, tuple[int, float]]:
        """Return rows and mean loss of predictions by day."""
        return daily_losses(loss, self.days, self.y, predictions, self.measuring, self.lists)


class _Predictions:
    """The predictions that a night has stored, read when they are needed first; nothing where they are gone."""

    def __init__(self, ctx: Context) -> None:
        self._ctx, self._task = ctx, ctx.pipeline.spec.target.task
        self._read: _Sides | None = None
        self._gone = False

    def metrics(self, gate: BoundGate) -> dict[str, MetricValue]:
        """Return the challenger's metrics on the rows that a gate bounds, at the points where the spec looks now."""
        sides = self._sides()
        if sides is None or not len(sides.y):
            return {}
        if gate.metric.startswith(PREFIX):
            return self._own(sides, gate.metric.removeprefix(PREFIX))
        column, _, value = (gate.slice or "").partition("=")
        if gate.slice:
            if column not in sides.slices or not (sides.slices[column] == value).any():
                return {}
            sides = sides.of(sides.slices[column] == value)
        found = self._ctx.services.trainer.metrics(sides.measuring, sides.y, sides.challenger, sides.lists)
        place = f"[{gate.slice}]" if gate.slice else ""
        return {name + place: MetricValue(value=value, rows=len(sides.y)) for name, value in found.items()}

    def _own(self, sides: _Sides, name: str) -> dict[str, MetricValue]:
        """Return a metric of evaluation.business; nothing where it reads features, which do not stand beside the predictions."""
        table = pa.table({"dt": sides.days, **{column: pa.array(values) for column, values in sides.slices.items()}})
        shown = beside(table, columns_told(sides.measuring, sides.classes, sides.y, sides.challenger))
        expressions = {name: self._ctx.pipeline.spec.evaluation.business[name]}
        try:
            days = len(np.unique(sides.days))
            value = float(self._ctx.services.engine.aggregates(shown, expressions, np.ones((1, days)))[name][0])
        except SpecInvalid:
            return {}
        return {PREFIX + name: MetricValue(value=value if np.isfinite(value) else None, rows=len(sides.y))}

    def average(self, loss: Loss, case: CaseForPromotion) -> dict[str, dict[str, tuple[BaselineDay, ...]]]:
        """Return the daily losses of whoever always predicts the average of training, beside the challenger's."""
        sides = self._sides()
        if sides is None or loss in case.baselines.get("average", {}):
            return {}
        rates = np.zeros(1) if sides.lists is not None else np.array([level.training for level in case.levels.values()])
        if not len(rates):
            return {}
        constant = np.broadcast_to(rates if sides.challenger.ndim > 1 else rates[0], sides.challenger.shape)
        theirs, ours = (sides.daily(loss, p) for p in (constant, sides.challenger))
        days = tuple(
            BaselineDay(day=day, rows=rows, baseline=theirs[day][1], challenger=own)
            for day, (rows, own) in ours.items()
        )
        return {"average": {**case.baselines.get("average", {}), loss: days}}

    def paired(self, loss: Loss) -> tuple[DayLoss, ...]:
        """Return both models' daily losses over the rows that both have scored."""
        both = self._both()
        return _paired(both, loss) if both else ()

    def slices(self, gate: SlicesGate) -> dict[str, dict[str, tuple[DayLoss, ...]]]:
        """Return both models' daily losses for each value of a column."""
        both = self._both()
        if both is None or gate.column not in both.slices:
            return {}
        values = both.slices[gate.column]
        return {str(v): {gate.loss: _paired(both.of(values == v), gate.loss)} for v in np.unique(values)}

    def shared(self, gate: SliceGapGate) -> dict[str, SharedMetric]:
        """Return both models' metrics for each value of a column."""
        both, found = self._both(), {}
        for value in np.unique(both.slices[gate.column]) if both and gate.column in both.slices else ():
            part = both.of(both.slices[gate.column] == value) if both else None
            if part is None or part.champion is None:
                continue
            theirs, ours = (
                self._ctx.services.trainer.metrics(part.measuring, part.y, p, part.lists).get(gate.metric)
                for p in (part.champion, part.challenger)
            )
            key = f"{gate.metric}[{gate.column}={value}]"
            found[key] = SharedMetric(champion=theirs, challenger=ours, rows=len(part.y))
        return found

    def flips(self, gate: StabilityGate) -> dict[str, MetricValue]:
        """Return the share of decisions that differ."""
        both = self._both()
        if both is None or both.champion is None or not len(both.y):
            return {}
        ours, theirs = both.challenger, both.champion
        if self._task == "multiclass":
            differ = ours.argmax(axis=1) != theirs.argmax(axis=1)
        elif self._task == "binary":
            differ = (ours >= gate.threshold) != (theirs >= gate.threshold)
        else:
            differ = moved(self._task, ours, theirs, gate.tolerance, both.lists)
        return {gate.key: MetricValue(value=float(differ.mean()), rows=len(both.y))}

    def _both(self) -> _Sides | None:
        """Return the rows that both have scored."""
        sides = self._sides()
        if sides is None or sides.champion is None:
            return None
        return sides.of(np.isfinite(sides.champion if sides.champion.ndim == 1 else sides.champion.sum(axis=1)))

    def _sides(self) -> _Sides | None:
        if self._read is None and not self._gone:
            assert self._ctx.night.evaluate
            try:
                table = pq.read_table(io.BytesIO(self._ctx.services.store.get(self._ctx.night.evaluate.predictions)))
            except (ObjectNotFound, pa.ArrowInvalid):
                self._gone = True
                return None
            names = table.column_names
            self._read = _Sides(
                days=table["dt"].to_numpy().astype("datetime64[D]"),
                y=table["label"].to_numpy(),
                challenger=_column(table["challenger"]),
                champion=_column(table["champion"]) if "champion" in names else None,
                slices={n.removeprefix(_SLICE): np.array(table[n].to_pylist()) for n in names if n.startswith(_SLICE)},
                measuring=self._ctx.pipeline.spec.measuring,
                lists=table["list"].to_numpy() if "list" in names else None,
                classes=tuple(json.loads((table.schema.metadata or {}).get(b"ratchet.classes", b"[]"))),
            )
        return self._read


def _paired(both: _Sides, loss: Loss) -> tuple[DayLoss, ...]:
    assert both.champion is not None
    ours, theirs = both.daily(loss, both.challenger), both.daily(loss, both.champion)
    return tuple(
        DayLoss(day=day, rows=rows, champion=theirs[day][1], challenger=value) for day, (rows, value) in ours.items()
    )


def _column(column: pa.ChunkedArray) -> Floats:
    values = column.to_pylist()
    width = next((len(v) for v in values if isinstance(v, list)), 0)
    nothing = [np.nan] * width if width else np.nan
    return np.array([nothing if v is None else v for v in values], dtype=np.float64)


_NEEDS: dict[type, Callable[[Any, CaseForPromotion], bool]] = {
    BoundGate: lambda gate, case: not gate.metric.startswith(PREFIX) or gate.metric in case.metrics,
    SlicesGate: lambda gate, case: (
        not case.champion or any(gate.loss in losses for losses in case.slices.get(gate.column, {}).values())
    ),
    SliceGapGate: lambda gate, case: all(
        any(key.startswith(f"{gate.metric}[{gate.column}=") for key in metrics)
        for metrics in ([case.metrics] + ([case.shared] if gate.margin is not None and case.champion else []))
    ),
    BaselineGate: lambda gate, case: all(
        gate.loss in case.baselines.get(gate.key(name), {}) for name in gate.baselines
    ),
    CalibrationGate: lambda _, case: bool(case.levels),
    BaseRateGate: lambda _, case: bool(case.levels),
    StabilityGate: lambda gate, case: not case.champion or gate.key in case.flips,
    DriftGate: lambda _, case: bool(case.drift),
    CostGate: lambda _, case: case.cost is not None,
    HealthGate: lambda _, case: case.health is not None,
    AgeGate: lambda _, case: not case.champion or case.served_days is not None,
}


def _has(gate: Gate, case: CaseForPromotion) -> bool:
    """Say whether a case holds what a gate looks at; without it the gate is UNDECIDED."""
    needs = _NEEDS.get(type(gate))
    return needs is None or needs(gate, case)


def _trial(ctx: Context, case: CaseForPromotion, proofs: list[EvidenceGate]) -> tuple[Trial | None, str]:
    """Return the evidence as it stood that night: as recorded, or put together from the stored days without fitting any model."""
    recorded = case.trial
    if not proofs or not case.champion or case.champion_problem:
        return recorded, ""
    fleets = recorded.fleets if recorded else {}
    strange = next((proof.fleet for proof in proofs if proof.fleet and proof.fleet not in fleets), None)
    if strange:
        return None, f"where fleet {strange} stood that night was not recorded"
    if recorded and all(recorded.automatic(proof) or proof.loss in recorded.evidence for proof in proofs):
        return recorded, ""
    try:
        found = trial.gather(ctx, fit=False)
    except (ObjectNotFound, ValidationError) as exc:
        return None, f"the stored evidence cannot be read: {str(exc)[:200]}"
    return found.model_copy(update={"fleets": fleets}) if found else None, ""
