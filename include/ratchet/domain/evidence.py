"""The anytime-valid gate: what the evidence over days says of a challenger's recipe, and whom a proof promotes.

There are two lanes. A *recipe* that is not the champion's must prove that it is better, both refreshed every night. A
*refresh* of the champion's own recipe needs no proof of its own once it is proved that refreshing beats holding.
"""

from __future__ import annotations

from datetime import date
from math import isfinite
from typing import TYPE_CHECKING, Literal

from ratchet.domain.checks import Check, Outcome
from ratchet.domain.models import ModelVersion
from ratchet.domain.records import Record
from ratchet.domain.statistics import EProcess, Evidence, e_bh, e_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.gates import EvidenceGate

Lane = Literal["recipe", "refresh"]

_CANDIDATES = 7  # of the last challengers: an older one has missed too much to be the best (GATES)
_STALE_DAYS = 7
_SHOWN = 2  # of the days that make no evidence, in a reason


class Shadow(Record):
    """A challenger of tonight's recipe that has scored days which it had not seen."""

    version: ModelVersion
    sound: bool  # whether all other checks of its own night passed
    days: dict[str, dict[str, float]]  # its mean losses by day and loss


class Member(Record):
    """Where one pipeline of a fleet stands."""

    pipeline: str
    cutoff: date  # of the night that left it
    evidence: float | None  # E, as it counts; None where nothing is being proved there


class Trial(Record):
    """What the evidence gates weigh."""

    lane: Lane
    certified_by: int | None = None  # the ledger entry that proved that refreshing this recipe beats holding it
    serving: str = ""  # why a recipe is compared with the champion as it serves, and not with its recipe refreshed
    evidence: dict[str, tuple[Evidence, ...]] = {}  # by loss, oldest day first
    without: tuple[str, ...] = ()  # days that make no evidence, and why
    shadows: tuple[Shadow, ...] = ()  # newest first
    fleets: dict[str, tuple[Member, ...]] = {}  # the other members, by fleet
    cutoff: date = date.min

    def automatic(self, gate: EvidenceGate) -> bool:
        """Say whether tonight's refresh needs no proof of its own."""
        return self.lane == "refresh" and gate.lane == "auto" and self.certified_by is not None


def evidence_check(gate: EvidenceGate, trial: Trial | None) -> Check:
    """Say where the evidence stands."""
    alpha = gate.wrong_promotions_per_quarter

    def check(outcome: Outcome, reason: str, value: float | None = None, limit: float | None = None) -> Check:
        return Check(name=gate.name, outcome=outcome, reason=reason, value=value, limit=limit)

    if trial is None:
        return check(Outcome.UNDECIDED, "no evidence was gathered")
    if trial.automatic(gate):
        return check(Outcome.PASS, f"refreshing is certified by ledger entry {trial.certified_by}")
    state = e_process(trial.evidence.get(gate.loss, ()), margin=gate.margin)
    if state.problem:
        return check(Outcome.UNDECIDED, f"{_question(trial)}: {state.problem}", state.better, 1 / alpha)
    outcome, reason, needed = _weighed(gate, trial, state)
    return check(outcome, reason, state.better, needed)


def _weighed(gate: EvidenceGate, trial: Trial, state: EProcess) -> tuple[Outcome, str, float]:
    alpha = gate.wrong_promotions_per_quarter
    needed, proved, fleet = _standing(gate, trial, state)
    told = _told(gate, trial, state, needed) + fleet
    if state.days < gate.min_days:
        return Outcome.UNDECIDED, f"{told}; at least {gate.min_days} days are needed", needed
    if proved:
        who, why = candidate(gate, trial)
        return Outcome.PASS if who else Outcome.UNDECIDED, f"{told}; {why}", needed
    if state.worse >= state.needed(alpha):
        worse = "refreshed models are worse than one that is held" if trial.lane == "refresh" else "it is worse"
        proof = f"as is proved by E = {state.worse:.3g} for worse: tell whoever owns the recipe"
        return Outcome.FAIL, f"{told}; {worse}, {proof}", needed
    return Outcome.UNDECIDED, told + ("" if fleet else _left(state, alpha)), needed


def _left(state: EProcess, alpha: float) -> str:
    """Say how long it will probably take."""
    nights = state.nights_left(alpha)
    if nights is None:
        return ", no proof in sight"
    return f", about {nights} more night{'s' if nights > 1 else ''}"


def counting(gate: EvidenceGate, trial: Trial | None) -> float | None:
    """Return the E with which a pipeline counts in its fleet; None where nothing is being proved."""
    if trial is None or trial.automatic(gate):
        return None
    state = e_process(trial.evidence.get(gate.loss, ()), margin=gate.margin)
    return state.better / (2 if state.persistent else 1)


def candidate(gate: EvidenceGate, trial: Trial) -> tuple[ModelVersion | None, str]:
    """Return whom a proof promotes: of the last sound challengers that shadowed long enough, the best over common days."""
    last = trial.shadows[:_CANDIDATES]
    usable = [
        (
            shadow.version,
            {day: found for day, by in shadow.days.items() if isfinite(found := by.get(gate.loss, float("nan")))},
        )
        for shadow in last
        if shadow.sound
    ]
    able = [(version, days) for version, days in usable if len(days) >= gate.shadow_nights]
    if not able:
        longest = max((len(days) for _, days in usable), default=0)
        return None, (
            f"nobody can be promoted yet: no sound challenger of this recipe has shadowed for {gate.shadow_nights} days, "
            f"the longest for {longest}"
        )
    while len(able) > 1 and len(_common(able)) < gate.shadow_nights:
        able = able[:-1]  # the oldest has left the league before the newest came
    common = _common(able)
    best, days = min(able, key=lambda pair: (sum(pair[1][day] for day in common) / len(common), -pair[0].version))
    words = f"version {best.version} is promoted, the best of {len(able)} over {len(common)} common days in shadow"
    if len(able) == 1:
        words = f"version {best.version} is promoted, which has shadowed for {len(days)} days"
    return best, words


def _common(able: Sequence[tuple[ModelVersion, dict[str, float]]]) -> set[str]:
    return set.intersection(*(set(days) for _, days in able))


def _standing(gate: EvidenceGate, trial: Trial, state: EProcess) -> tuple[float, bool, str]:
    """Return what E must reach, whether it is proved, and what the fleet has to do with it."""
    needed = state.needed(gate.wrong_promotions_per_quarter)
    if gate.fleet is None:
        return needed, state.better >= needed, ""
    twice = 2 if state.persistent else 1
    members = [m for m in trial.fleets.get(gate.fleet, ()) if m.evidence is not None]
    others = {f"other {m.pipeline}": m.evidence or 0.0 for m in members}
    count = len(others) + 1
    proved = "mine" in e_bh({**others, "mine": state.better / twice}, gate.false_share)
    # What E it takes tonight, with the others as they are: the k-th largest must reach K / (k · share).
    steps = [count / (k * gate.false_share) for k in range(1, count + 1)]
    enough = [step for k, step in enumerate(steps) if sum(isfinite(e) and e >= step for e in others.values()) >= k]
    stale = sorted(m.pipeline for m in members if (trial.cutoff - m.cutoff).days > _STALE_DAYS)
    more = " …" if len(stale) > _SHOWN else ""
    old = f" ({', '.join(stale[:_SHOWN])}{more} as of more than {_STALE_DAYS} days ago)" if stale else ""
    # In a small fleet, or one of which most are proved, that would be less than a pipeline by itself is asked for.
    return (
        max(min(enough) * twice, needed),
        proved and state.better >= needed,
        f", in fleet {gate.fleet} of {count}{old}",
    )


def _question(trial: Trial) -> str:
    if trial.lane == "refresh":
        return "refreshing against holding"
    if trial.serving:
        return f"the new recipe against the champion as it serves ({trial.serving})"
    return "the new recipe against the champion's, both refreshed nightly"


def _told(gate: EvidenceGate, trial: Trial, state: EProcess, needed: float) -> str:
    evidence = trial.evidence.get(gate.loss, ())
    replayed = len({e.day for e in evidence if e.replayed})
    said = f"{_question(trial)}: E = {state.better:.3g} of {needed:.3g} after {state.days} day{'' if state.days == 1 else 's'}"
    if replayed:
        said += f" ({replayed} of them replayed from history)"
    if state.days > 1:
        said += f", signal-to-noise {state.signal_to_noise:.2f}"
    if state.persistent:
        said += f"; good days follow good days (lag-1 autocorrelation {state.autocorrelation:.2f}), so twice the proof is asked for"
    if trial.without:
        more = f" and {len(trial.without) - _SHOWN} more" if len(trial.without) > _SHOWN else ""
        said += f"; without evidence: {'; '.join(trial.without[-_SHOWN:])}{more}"
    return said
