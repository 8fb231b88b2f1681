"""The plots that look beyond tonight's rows: paired days, the evidence so far, and the nights before."""

from __future__ import annotations

from math import isfinite, log10
from typing import TYPE_CHECKING

from ratchet.adapters.report.svg import Axis, Figure, Plot, axis, day_axis
from ratchet.adapters.report.view import number
from ratchet.domain.gates import LOSSES, ChampionGate, EvidenceGate
from ratchet.domain.statistics import e_process, lower_and_upper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratchet.domain.case import DayLoss
    from ratchet.domain.night import Night
    from ratchet.spec import Pipeline

_DAYS = 60  # of evidence, the newest; more than that is a smear at this size
_TOP = 4.0  # log10 of the largest E that is drawn


def paired_days(night: Night, pipeline: Pipeline) -> Iterator[Figure]:
    """Draw champion − challenger by day, for each loss that a gate compares."""
    paired = night.evaluate.case.paired if night.evaluate else {}
    gates = [g for g in pipeline.spec.gates if isinstance(g, ChampionGate)]
    losses = dict.fromkeys([*(g.loss for g in gates), LOSSES[pipeline.spec.target.task][0]])
    for loss in list(losses)[: max(1, len({g.loss for g in gates}))]:
        days = tuple(d for d in paired.get(loss, ()) if isfinite(d.champion - d.challenger))
        if days:
            confidence = next((g.confidence for g in gates if g.loss == loss), 0.95)
            yield _paired(loss, days[-_DAYS:], confidence)


def _paired(loss: str, days: tuple[DayLoss, ...], confidence: float) -> Figure:
    values = [d.champion - d.challenger for d in days]
    note = f"above zero the challenger lost less; {len(days)} days that neither has fitted on"
    bounds = lower_and_upper(values, confidence) if len(values) > 1 else None
    if bounds and not all(isfinite(b) for b in bounds):
        bounds = None
    reach = [0.0, *values, *(bounds or ())]
    plot = Plot(day_axis([d.day for d in days]), axis(min(reach), max(reach), "champion − challenger"), left=64)
    if bounds:
        mean, low, high = bounds
        plot.box(0, len(days), low, high, "band")
        note += f"; the line is the mean {number(mean, signed=True)}, the band its one-sided {confidence:.0%} bounds {number(low, signed=True)} and {number(high, signed=True)}"
    for i, (day, value) in enumerate(zip(days, values, strict=True)):
        said = f"{day.day}: {number(value, signed=True)} over {day.rows:,} rows (champion {number(day.champion)}, challenger {number(day.challenger)})"
        plot.box(i + 0.2, i + 0.8, 0, value, "challenger" if value >= 0 else "champion", said)
    plot.line((0, len(days)), (0, 0), "zero")
    if bounds:
        plot.line((0, len(days)), (bounds[0], bounds[0]), "mean")
    keys = (("challenger", "challenger better"), ("champion", "champion better"))
    return Figure(f"Difference in {loss} by day", plot.svg(f"Champion minus challenger, {loss}, by day"), keys, note)


def evidence(night: Night, pipeline: Pipeline) -> Iterator[Figure]:
    """Draw how E has grown over the reign, for each gate of that kind."""
    trial = night.evaluate.case.trial if night.evaluate else None
    for gate in pipeline.spec.gates:
        days = (
            sorted(
                {e.day: e for e in (trial.evidence.get(gate.loss, ()) if trial else ())}.values(), key=lambda e: e.day
            )
            if isinstance(gate, EvidenceGate)
            else []
        )
        if not (isinstance(gate, EvidenceGate) and days):
            continue
        shown = range(max(1, len(days) - _DAYS + 1), len(days) + 1)
        states = [e_process(days[:i], margin=gate.margin) for i in shown]
        limit = states[-1].needed(gate.wrong_promotions_per_quarter)
        top = max(_TOP / 2, log10(limit) + 0.3, *(min(_TOP, log10(max(s.better, s.worse, 1e-9))) for s in states))
        ticks = tuple((float(k), f"{10.0**k:g}") for k in range(-2, int(_TOP) + 1) if k <= top)
        plot = Plot(day_axis([days[i - 1].day for i in shown]), Axis(-2.0, top, ticks, "E (log scale)"))
        xs = [i + 0.5 for i in range(len(states))]
        plot.line((0, len(states)), (0, 0), "zero")
        plot.line((0, len(states)), (log10(limit), log10(limit)), "limit")
        plot.text(0, log10(limit) + 0.08, f"  {limit:g} decides", "tick", "start")
        plot.line(xs, [log10(max(s.worse, 1e-9)) for s in states], "champion")
        plot.line(xs, [log10(max(s.better, 1e-9)) for s in states], "challenger")
        for x, i, s in zip(xs, shown, states, strict=True):
            plot.dot(
                x,
                log10(max(s.better, 1e-9)),
                "challenger",
                f"{days[i - 1].day}: E = {s.better:.3g}, for worse {s.worse:.3g}",
                radius=2.5,
            )
        last = states[-1]
        left = last.nights_left(gate.wrong_promotions_per_quarter)
        rest = f"; about {left} more at this rate" if left and last.better < limit else ""
        keys = (("challenger", f"better: E = {last.better:.3g}"), ("champion", f"worse: E = {last.worse:.3g}"))
        note = f"{last.days} days, signal to noise {last.signal_to_noise:.2f} a day{rest}"
        yield Figure(
            f"Evidence on {gate.loss}", plot.svg(f"E-value by day, {limit:g} decides"), keys, last.problem or note
        )


def nights(night: Night, earlier: Sequence[Night], metric: str) -> Figure | None:
    """Draw the watched metric of the last nights, oldest first, with each night's outcome below it."""
    shown = [*earlier[:29][::-1], night]
    ours = [_metric(n.evaluate.challenger if n.evaluate else None, metric) for n in shown]
    theirs = [_metric(n.evaluate.champion if n.evaluate else None, metric) for n in shown]
    known = [v for v in (*ours, *theirs) if isfinite(v)]
    if not known:
        return None
    plot = Plot(day_axis([str(n.request.cutoff) for n in shown]), axis(min(known), max(known), wanted=4), height=190)
    xs = [i + 0.5 for i in range(len(shown))]
    plot.line(xs, theirs, "champion")
    plot.line(xs, ours, "challenger")
    for x, n, value in zip(xs, shown, ours, strict=True):
        plot.dot(x, value, n.outcome, f"{n.request.cutoff}: {n.outcome}, {metric} {number(value)}", radius=3.5)
    keys = (("challenger", "challenger"), ("champion", "champion"))
    return Figure(
        f"{metric} from night to night",
        plot.svg(f"{metric} of the last nights"),
        keys,
        "each dot in the colour of the night’s outcome",
    )


def _metric(metrics: dict[str, float | None] | None, name: str) -> float:
    value = (metrics or {}).get(name)
    return float("nan") if value is None else value
