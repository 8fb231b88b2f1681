"""What each gate says of a case. Total: whatever the numbers are, each rule gives a check, and none passes by accident."""

from __future__ import annotations

from math import inf, isfinite, nan, sqrt
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ratchet.domain.case import BaselineDay, MetricValue
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.gates import (
    AgeGate,
    BaselineGate,
    BaseRateGate,
    BoundGate,
    CalibrationGate,
    ChampionGate,
    CostGate,
    DriftGate,
    HealthGate,
    SliceGapGate,
    SlicesGate,
    StabilityGate,
)
from ratchet.domain.statistics import lower_and_upper

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratchet.domain.case import CaseForPromotion, DayLoss, Level

Rule = (
    BoundGate
    | ChampionGate
    | SlicesGate
    | SliceGapGate
    | BaselineGate
    | CalibrationGate
    | BaseRateGate
    | StabilityGate
    | DriftGate
    | CostGate
    | HealthGate
    | AgeGate
)
T = TypeVar("T")
_LISTED = 5  # names in a reason; more are counted
_BEATEN_CONFIDENCE, _BEATEN_DAYS = 0.95, 5  # by which a baseline is shown to be better than the challenger


class _Found(NamedTuple):
    """What a rule came to."""

    outcome: Outcome
    reason: str
    value: float | None = None
    limit: float | None = None


def rule_check(gate: Rule, case: CaseForPromotion) -> Check:
    """Say what one gate makes of a case; it passes on finite numbers only."""
    found = _found(gate, case)
    numbers = (found.value, found.limit)
    if found.outcome is Outcome.PASS and not all(x is not None and isfinite(x) for x in numbers):
        found = found._replace(outcome=Outcome.UNDECIDED, reason=f"{found.reason}; these are no finite numbers")
    return Check(kind=gate.kind, name=gate.name, **found._asdict())


def _found(gate: Rule, case: CaseForPromotion) -> _Found:  # noqa: C901, PLR0911  one for each kind
    match gate:
        case BoundGate():
            return _bound(gate, case)
        case ChampionGate():
            return _champion(gate, case)
        case SlicesGate():
            return _slices(gate, case)
        case SliceGapGate():
            return _slice_gap(gate, case)
        case BaselineGate():
            return _baseline(gate, case)
        case CalibrationGate() | BaseRateGate():
            return _level(gate, case)
        case StabilityGate():
            return _stability(gate, case)
        case DriftGate():
            return _drift(gate, case)
        case CostGate():
            return _cost(gate, case)
        case HealthGate():
            return _health(gate, case)
        case AgeGate():
            return _age(gate, case)


def _bound(gate: BoundGate, case: CaseForPromotion) -> _Found:
    found = case.metrics.get(f"{gate.metric}[{gate.slice}]" if gate.slice else gate.metric)
    limit = gate.at_least if gate.at_least is not None else gate.at_most
    if limit is None or not isfinite(limit):
        return _Found(Outcome.UNDECIDED, "the bound is not a finite number", limit=limit)
    if found is None or found.value is None:
        return _Found(Outcome.UNDECIDED, "the metric could not be computed on these rows", limit=limit)
    if not isfinite(found.value):
        return _Found(Outcome.FAIL, f"the metric is {found.value}, not a finite number", found.value, limit)
    if found.rows < gate.min_rows:
        few = f"only {found.rows} rows, at least {gate.min_rows} are needed"
        return _Found(Outcome.UNDECIDED, few, found.value, limit)
    good = found.value >= limit if gate.at_least is not None else found.value <= limit
    reason = f"{found.value:.4f} over {found.rows} rows"
    return _Found(Outcome.PASS if good else Outcome.FAIL, reason, found.value, limit)


class _Days(NamedTuple):
    """Daily differences, positive where the challenger is better."""

    differences: list[float]
    rows: int
    problem: str | None


def _days(told: Iterable[DayLoss | BaselineDay]) -> _Days:
    """Return the differences of the days that have rows, each once and in order, or what is wrong with them."""
    given = sorted((d for d in told if d.rows > 0), key=lambda d: d.day)
    days = {d.day: d for d in given}
    differences = [d.other - d.challenger for d in days.values()]
    problem = None
    if not all(isfinite(x) for x in differences):
        problem = "a daily loss is not a finite number"
    elif any(d != days[d.day] for d in given):
        problem = "a day is told in two ways"
    return _Days(differences, sum(d.rows for d in days.values()), problem)


class _Interval(NamedTuple):
    """The mean of daily differences, and its one-sided bounds."""

    mean: float
    low: float
    high: float

    @property
    def finite(self) -> bool:
        return all(isfinite(x) for x in self)


def _interval(differences: Sequence[float], confidence: float) -> _Interval:
    if not 0 < confidence < 1 or len(differences) < 2:  # noqa: PLR2004  one day has no spread
        return _Interval(nan, nan, nan)
    return _Interval(*lower_and_upper(differences, confidence))


def _champion(gate: ChampionGate, case: CaseForPromotion) -> _Found:
    if away := _no_champion(case):
        return away
    limit = -gate.margin
    days = _days(case.paired.get(gate.loss, ()))
    if not isfinite(gate.margin) or days.problem:
        return _Found(Outcome.UNDECIDED, days.problem or "the margin is not a finite number", limit=limit)
    count = len(days.differences)
    if count < max(gate.min_days, 2):
        few = f"{count} days that neither model has seen, {gate.min_days} are needed"
        return _Found(Outcome.UNDECIDED, few, limit=limit)
    found = _interval(days.differences, gate.confidence)
    if not found.finite:
        return _Found(Outcome.UNDECIDED, "the daily differences are too large to compare", limit=limit)
    reason = (
        f"champion minus challenger {found.mean:+.5f}, {gate.confidence:.0%} one-sided bounds "
        f"[{found.low:+.5f}, {found.high:+.5f}] over {count} days"
    )
    return _Found(_against(found, limit), reason, found.mean, limit)


def _against(found: _Interval, limit: float) -> Outcome:
    """Say whether the whole interval lies on one side of a limit."""
    if found.low >= limit:
        return Outcome.PASS
    return Outcome.FAIL if found.high < limit else Outcome.UNDECIDED


def _slices(gate: SlicesGate, case: CaseForPromotion) -> _Found:
    if away := _no_champion(case):
        return away
    limit = -gate.margin
    if not isfinite(gate.margin):
        return _Found(Outcome.UNDECIDED, "the margin is not a finite number", limit=limit)
    judged, open_, left_out = _judgeable(gate, case.slices.get(gate.column, {}))
    share = 1 - (1 - gate.confidence) / max(len(judged), 1)
    found = {value: _interval(differences, share) for value, differences in judged.items()}
    open_ += [f"{value}: the daily differences are too large to compare" for value in found if not found[value].finite]
    finite = {value: interval for value, interval in found.items() if interval.finite}
    rest = f"; left out, with too little data: {_listed(left_out)}" if left_out else ""
    if not finite:
        return _Found(
            Outcome.UNDECIDED, (_listed(open_) or "no value has enough data to be judged") + rest, limit=limit
        )
    outcome, reason, worst = _by_value_worse(gate, finite, open_)
    about = f"{len(finite)} values judged together at {gate.confidence:.0%}{rest}"
    return _Found(outcome, f"{reason}; {about}", worst, limit)


def _judgeable(
    gate: SlicesGate, values: Mapping[str, Mapping[str, Sequence[DayLoss]]]
) -> tuple[dict[str, list[float]], list[str], list[str]]:
    """Return the daily differences by value, what keeps a named value from being judged, and who is left out."""
    judged: dict[str, list[float]] = {}
    open_, left_out = [], []
    for value in sorted({*values, *gate.values}):
        days = _days(values.get(value, {}).get(gate.loss, ()))
        if days.problem:
            open_.append(f"{value}: {days.problem}")
        elif days.rows >= gate.min_rows and len(days.differences) >= max(gate.min_days, 2):
            judged[value] = days.differences
        elif value in gate.values:
            few = f"{value}: {days.rows} rows of {len(days.differences)} days"
            open_.append(f"{few}, at least {gate.min_rows} of {gate.min_days} are needed")
        else:
            left_out.append(value)
    return judged, open_, left_out


def _by_value_worse(gate: SlicesGate, found: Mapping[str, _Interval], open_: list[str]) -> tuple[Outcome, str, float]:
    """Say which values got worse, or may have; and the mean of the worst."""
    lowest = min(found, key=lambda value: found[value].mean)
    mean = found[lowest].mean
    worse = [f"{value} {i.mean:+.5f} (at most {i.high:+.5f})" for value, i in found.items() if i.high < -gate.margin]
    if worse:
        return Outcome.FAIL, f"champion minus challenger of {_listed(worse)}: worse", mean
    if gate.proven:
        low = [(value, i) for value, i in found.items() if i.low < -gate.margin]
        open_ = [*open_, *(f"{value} may be worse ({i.mean:+.5f}, at least {i.low:+.5f})" for value, i in low)]
    if open_:
        return Outcome.UNDECIDED, _listed(open_), mean
    shown = "each is shown to be no worse" if gate.proven else "none is shown to be worse"
    return Outcome.PASS, f"{shown}, {lowest} is lowest with {mean:+.5f}", mean


def _slice_gap(gate: SliceGapGate, case: CaseForPromotion) -> _Found:
    sides = []
    if gate.at_most is not None:
        sides.append(_gap(gate, _by_value(gate, case.metrics)))
    if gate.margin is not None:
        away = _no_champion(case)
        if away is None:
            sides.append(_wider(gate, case))
        elif not sides or case.champion:
            sides.append(away)
    if not sides:
        return _Found(Outcome.UNDECIDED, "the gate has no bound")
    return _worst(sides)


def _gap(gate: SliceGapGate, values: Mapping[str, MetricValue], limit: float | None = None) -> _Found:
    """Judge the distance between the best and the worst value with enough rows."""
    limit = gate.at_most if limit is None else limit
    enough = {v: m.value for v, m in values.items() if m.rows >= gate.min_rows and m.value is not None}
    if limit is None or not all(isfinite(x) for x in (limit, *enough.values())):
        return _Found(Outcome.UNDECIDED, f"{gate.metric} of a value, or the bound, is not a finite number", limit=limit)
    if len(enough) < 2:  # noqa: PLR2004  a gap has two ends
        few = f"{len(enough)} values of {gate.column} with {gate.min_rows} rows or more, 2 are needed"
        return _Found(Outcome.UNDECIDED, few, limit=limit)
    low, high = min(enough, key=lambda v: enough[v]), max(enough, key=lambda v: enough[v])
    gap = enough[high] - enough[low]
    left_out = sorted(values.keys() - enough.keys())
    reason = f"{gap:.4f}, from {low} {enough[low]:.4f} to {high} {enough[high]:.4f}"
    reason += f"; left out, with too little data: {_listed(left_out)}" if left_out else ""
    missing = [value for value in gate.values if value not in enough]
    if missing and gap <= limit:
        return _Found(Outcome.UNDECIDED, f"{_listed(missing)}: too little data; {reason}", gap, limit)
    return _decided(gap <= limit, reason, gap, limit)


def _wider(gate: SliceGapGate, case: CaseForPromotion) -> _Found:
    """Judge the challenger's gap by the champion's, on the same rows and values."""
    shared = {
        value: m
        for value, m in _by_value(gate, case.shared).items()
        if m.rows >= gate.min_rows and m.champion is not None and isfinite(m.champion)
    }
    theirs = [m.champion for m in shared.values() if m.champion is not None]
    if len(theirs) < 2 or gate.margin is None:  # noqa: PLR2004
        few = f"{len(theirs)} values of {gate.column} with {gate.min_rows} rows or more that both have scored, 2 are needed"
        return _Found(Outcome.UNDECIDED, few)
    gap = max(theirs) - min(theirs)
    ours = {value: MetricValue(value=m.challenger, rows=m.rows) for value, m in shared.items()}
    found = _gap(gate, ours, gap + gate.margin)
    return found._replace(reason=f"{found.reason}; the champion's is {gap:.4f}")


def _by_value(gate: SliceGapGate, metrics: Mapping[str, T]) -> dict[str, T]:
    """Return a metric's slices by the column's value."""
    start = f"{gate.metric}[{gate.column}="
    return {key[len(start) : -1]: m for key, m in metrics.items() if key.startswith(start) and key.endswith("]")}


def _baseline(gate: BaselineGate, case: CaseForPromotion) -> _Found:
    sides = [_beaten(gate, name, case.baselines.get(gate.key(name), {}).get(gate.loss, ())) for name in gate.baselines]
    return _worst(sides) if sides else _Found(Outcome.UNDECIDED, "the gate names no baseline")


def _beaten(gate: BaselineGate, name: str, told: Sequence[BaselineDay]) -> _Found:
    days = _days(told)
    if not isfinite(gate.margin) or days.problem:
        reason = f"{name}: {days.problem or 'the margin is not a finite number'}"
        return _Found(Outcome.UNDECIDED, reason, limit=gate.margin)
    count = len(days.differences)
    if count < max(gate.min_days, 2):
        return _Found(Outcome.UNDECIDED, f"{name}: {count} days, {gate.min_days} are needed", limit=gate.margin)
    found = _interval(days.differences, gate.confidence)
    if not found.finite:
        return _Found(Outcome.UNDECIDED, f"{name}: the daily differences are too large to compare", limit=gate.margin)
    bounds = f"[{found.low:+.5f}, {found.high:+.5f}] over {count} days"
    reason = f"{name} minus challenger {found.mean:+.5f}, {gate.confidence:.0%} one-sided bounds {bounds}"
    return _Found(_against(found, gate.margin), reason, found.mean, gate.margin)


def baselines_check(case: CaseForPromotion) -> Check | None:
    """Say whether the challenger beats each baseline that it must beat, whatever the gates are; None where a record asks for nothing.

    A mean daily loss below each baseline's passes. Otherwise it fails where days show that some baseline is better, and is open
    where they do not.
    """
    asked = case.must_beat
    if asked is None or not asked.baselines:
        return None
    names = asked.baselines
    sides = [_ahead(name, case.baselines.get(name, {}).get(asked.loss, ())) for name in names]
    worst = _worst(sides)
    reason = "; ".join(side.reason for side in sides if side.outcome is worst.outcome)
    return Check(name=f"{asked.loss} better than that of {', '.join(names)}", **worst._replace(reason=reason)._asdict())


def _ahead(name: str, told: Sequence[BaselineDay]) -> _Found:
    """Say whether the challenger's mean daily loss is below a baseline's."""
    days = _days(told)
    count = len(days.differences)
    if days.problem or not count:
        reason = f"{name}: {days.problem or 'it is not known, for there was nothing to learn it from'}"
        return _Found(Outcome.UNDECIDED, reason, limit=0.0)
    mean = sum(days.differences) / count
    if not isfinite(mean):
        return _Found(Outcome.UNDECIDED, f"{name}: the daily differences are too large to compare", limit=0.0)
    reason = f"{name} minus challenger {mean:+.5f} over {count} day{'s' if count > 1 else ''}"
    if mean > 0:
        return _Found(Outcome.PASS, reason, mean, 0.0)
    found = _interval(days.differences, _BEATEN_CONFIDENCE)
    if count >= _BEATEN_DAYS and found.finite and found.high < 0:
        words = f"{reason}, at most {found.high:+.5f} with {_BEATEN_CONFIDENCE:.0%} one-sided confidence: it is better"
        return _Found(Outcome.FAIL, words, mean, 0.0)
    return _Found(Outcome.UNDECIDED, f"{reason}: not beaten, nor shown to be better", mean, 0.0)


def _level(gate: CalibrationGate | BaseRateGate, case: CaseForPromotion) -> _Found:
    sides, left_out = [], []
    for name, level in _judged(gate, case.levels):
        if isinstance(gate, CalibrationGate) and name and level.events < gate.min_events:
            left_out.append(name)
            continue
        found = _height(gate, level)
        sides.append(found._replace(reason=f"{name}: {found.reason}") if name else found)
    if not sides:
        few = (
            f"too few rows of {_listed(left_out)}" if left_out else "the levels of predictions and labels are not known"
        )
        return _Found(Outcome.UNDECIDED, few, limit=gate.at_most)
    worst = _worst(sides)
    rest = f"; left out, with fewer rows than min_events: {_listed(left_out)}" if left_out else ""
    return worst._replace(reason=worst.reason + rest)


def _judged(gate: CalibrationGate | BaseRateGate, levels: Mapping[str, Level]) -> Iterable[tuple[str, Level]]:
    """Return the levels that a gate looks at: how high an outer quantile is in training, where all rows are one, says nothing."""
    quantiles = {name: level.quantile for name, level in levels.items() if level.quantile is not None}
    if isinstance(gate, CalibrationGate) or not quantiles:
        return levels.items()
    middle = min(quantiles, key=lambda name: abs(quantiles[name] - 0.5))
    return [(middle, levels[middle])]


def _height(gate: CalibrationGate | BaseRateGate, level: Level) -> _Found:
    """Judge one level against what was observed, or against training."""
    observed = isinstance(gate, CalibrationGate)
    if observed and level.quantile is not None:
        return _exceeded(gate, level, level.quantile)
    truth, words = (level.observed, "observed") if observed else (level.training, "in training")
    reason = f"mean prediction {level.predicted:.4f}, {words} {truth:.4f}, over {level.rows} rows"
    base = level.spread if level.continuous else truth
    few = _too_few(gate, level)
    if not isfinite(level.predicted):
        return _Found(
            Outcome.FAIL, f"the mean prediction is {level.predicted}, not a finite number", limit=gate.at_most
        )
    if few or not all(isfinite(x) for x in (truth, base, gate.bias, gate.at_least, gate.at_most)) or base <= 0:
        return _Found(Outcome.UNDECIDED, few or f"{reason}: nothing to compare with", limit=gate.at_most)
    if level.continuous:
        bias = (level.predicted - truth) / base
        return _decided(abs(bias) <= gate.bias, f"{reason}: {bias:+.3f} sd", bias, gate.bias)
    ratio = level.predicted / base
    good = gate.at_least <= ratio <= gate.at_most
    return _decided(good, f"{reason}: ratio {ratio:.3f}", ratio, gate.at_least if ratio < 1 else gate.at_most)


def _exceeded(gate: CalibrationGate | BaseRateGate, level: Level, quantile: float) -> _Found:
    """Judge how many labels lie at or below a quantile, in standard deviations of a row's lying there."""
    few = _too_few(gate, level)
    if few or level.below is None or not all(map(isfinite, (level.below, gate.bias))) or not 0 < quantile < 1:
        words = few or "the share of labels at or below it is not known"
        return _Found(Outcome.UNDECIDED, words, limit=gate.bias)
    reason = f"{level.below:.2%} of {level.rows} labels are at or below it"
    bias = (level.below - quantile) / sqrt(quantile * (1 - quantile))
    return _decided(abs(bias) <= gate.bias, f"{reason}: {bias:+.3f} sd", bias, gate.bias)


def _too_few(gate: CalibrationGate | BaseRateGate, level: Level) -> str:
    """Say what there is too little of."""
    if level.rows < gate.min_rows:
        return f"only {level.rows} rows, at least {gate.min_rows} are needed"
    if isinstance(gate, CalibrationGate) and not level.continuous and level.events < gate.min_events:
        return f"only {level.events} rows of the class, at least {gate.min_events} are needed"
    return ""


def _decided(good: bool, reason: str, value: float, limit: float) -> _Found:  # noqa: FBT001  the outcome itself
    if not isfinite(value):
        return _Found(Outcome.UNDECIDED, reason, value, limit)
    return _Found(Outcome.PASS if good else Outcome.FAIL, reason, value, limit)


def _stability(gate: StabilityGate, case: CaseForPromotion) -> _Found:
    if away := _no_champion(case):
        return away
    found = case.flips.get(gate.key)
    if found is None or found.value is None or not 0 <= found.value <= 1 or not isfinite(gate.at_most):
        return _Found(Outcome.UNDECIDED, "the share of flips could not be computed", limit=gate.at_most)
    if found.rows < gate.min_rows:
        few = f"only {found.rows} rows that both have scored, at least {gate.min_rows} are needed"
        return _Found(Outcome.UNDECIDED, few, found.value, gate.at_most)
    return _held(found.value <= gate.at_most, f"{found.value:.2%} of {found.rows} rows", found.value, gate.at_most)


def _held(good: bool, reason: str, value: float, limit: float) -> _Found:  # noqa: FBT001
    """Pass, or hold: what is out of bounds is for a person to look at."""
    return _Found(Outcome.PASS if good and isfinite(value) else Outcome.UNDECIDED, reason, value, limit)


def _drift(gate: DriftGate, case: CaseForPromotion) -> _Found:
    names = [n for n in gate.features or sorted(case.drift) if n not in gate.ignore]
    sides = [_moved(name, case.drift.get(name), gate.at_most, gate.min_rows) for name in names]
    if gate.predictions_at_most is not None:
        sides.append(_moved("predictions", case.prediction_drift, gate.predictions_at_most, gate.min_rows))
    if not sides or not names:
        return _Found(Outcome.UNDECIDED, "there is no feature to look at", limit=gate.at_most)
    held = [side for side in sides if side.outcome is not Outcome.PASS]
    if held:
        worst = max(held, key=_excess)
        return worst._replace(reason=_listed([side.reason for side in sorted(held, key=_excess, reverse=True)]))
    most = max(sides, key=_excess)
    return most._replace(reason=f"{most.reason}, the most of {len(sides)}")


def _moved(name: str, found: MetricValue | None, limit: float, min_rows: int) -> _Found:
    if found is None or found.value is None or not isfinite(found.value) or found.value < 0 or not isfinite(limit):
        return _Found(Outcome.UNDECIDED, f"the drift of {name} could not be computed", limit=limit)
    if found.rows < min_rows:
        few = f"{name}: only {found.rows} rows, at least {min_rows} are needed"
        return _Found(Outcome.UNDECIDED, few, found.value, limit)
    return _held(found.value <= limit, f"{name} {found.value:.3f}", found.value, limit)


def _cost(gate: CostGate, case: CaseForPromotion) -> _Found:
    if case.cost is None:
        return _Found(Outcome.UNDECIDED, "the cost of scoring was not measured")
    units = {"artifact_mib": "MiB of artifact", "latency_ms": "ms for 1,000 rows", "memory_mib": "MiB of memory"}
    sides = []
    for name, bound in gate.bounds.items():
        value = getattr(case.cost, name)
        reason = f"{value:.3g} {units[name]}"
        good = isfinite(bound) and isfinite(value) and 0 <= value <= bound
        sides.append(_held(good, reason, value, bound))
    return _worst(sides) if sides else _Found(Outcome.UNDECIDED, "the gate has no bound")


def _health(gate: HealthGate, case: CaseForPromotion) -> _Found:
    health = case.health
    if health is None:
        return _Found(Outcome.UNDECIDED, "the health of the data is not known")
    counts = (
        health.partitions,
        health.quarantined,
        health.warnings,
        health.rows,
        health.unlabelled,
        health.newest_rows,
    )
    if min(counts) < 0:
        return _Found(Outcome.UNDECIDED, "a count is negative")
    least, most = gate.volume
    volume = _ratio(health.newest_rows, health.usual_rows)
    sides = [
        _share("days quarantined", health.quarantined, health.partitions, gate.quarantined_at_most),
        _share("rows unlabelled", health.unlabelled, health.rows, gate.unlabelled_at_most),
        _held(
            isfinite(volume) and isfinite(most) and least <= volume <= most,
            f"{health.newest_rows} labelled rows of the newest day, {health.usual_rows:g} of the median day",
            volume,
            least if volume < least else most,
        ),
    ]
    if gate.warnings_at_most is not None:
        warnings = _ratio(health.warnings, 1)
        bound = float(gate.warnings_at_most)
        sides.append(_held(warnings <= bound, f"{health.warnings} warnings", warnings, bound))
    return _worst(sides)


def _share(what: str, part: int, whole: int, limit: float) -> _Found:
    share = _ratio(part, whole)
    good = isfinite(share) and isfinite(limit) and share <= limit
    return _held(good, f"{part} of {whole} {what}", share, limit)


def _age(gate: AgeGate, case: CaseForPromotion) -> _Found:
    limit = float(gate.min_days)
    if not case.champion:
        return _Found(Outcome.NOT_APPLICABLE, "no champion yet: this is the bootstrap")
    if case.served_days is None:
        return _Found(Outcome.UNDECIDED, "it is not known since when the champion serves", limit=limit)
    return _held(
        case.served_days >= gate.min_days, f"{case.served_days} days so far", _ratio(case.served_days, 1), limit
    )


def _no_champion(case: CaseForPromotion) -> _Found | None:
    """Return what a comparison says where there is nobody to compare with."""
    if not case.champion:
        return _Found(Outcome.NOT_APPLICABLE, "no champion yet: this is the bootstrap")
    if case.champion_problem:
        return _Found(Outcome.UNDECIDED, f"the champion cannot be compared: {case.champion_problem}")
    return None


def _ratio(part: float, whole: float) -> float:
    """Divide; NaN by nothing, or by less than nothing."""
    try:
        return part / whole if whole > 0 else nan
    except OverflowError:
        return inf


def _excess(found: _Found) -> float:
    """Say how far a value is over its limit; what could not be measured comes first."""
    if found.value is None or found.limit is None or not isfinite(found.value):
        return inf
    return found.value - found.limit


def _worst(sides: Sequence[_Found]) -> _Found:
    """Return the part that decides, with the reasons of all that decide likewise."""
    order = (Outcome.FAIL, Outcome.UNDECIDED, Outcome.PASS, Outcome.NOT_APPLICABLE)
    outcome = min((side.outcome for side in sides), key=order.index)
    alike = [side for side in sides if side.outcome is outcome]
    reasons = [side.reason for side in alike]
    told = [r for r in reasons if not any(o != r and o.startswith(r) for o in reasons)]
    return alike[0]._replace(reason="; ".join(told))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
