"""The anytime-valid gate: what the evidence over days says of a challenger's recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.checks import Check, Outcome
from ratchet.domain.statistics import Evidence, e_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.gates import EvidenceGate


def evidence_check(gate: EvidenceGate, evidence: Sequence[Evidence]) -> Check:
    """Say where the evidence stands."""
    alpha = gate.wrong_promotions_per_quarter
    state = e_process(evidence, margin=gate.margin)

    def check(outcome: Outcome, reason: str) -> Check:
        return Check(name=gate.name, outcome=outcome, reason=reason, value=state.better, limit=1 / alpha)

    if state.problem:
        return check(Outcome.UNDECIDED, state.problem)
    nights = f", about {state.nights_left(alpha)} more nights at this rate" if state.nights_left(alpha) else ""
    reason = f"E = {state.better:.2f} of {1 / alpha:.0f} after {state.days} days"
    if state.days < gate.min_days:
        return check(Outcome.UNDECIDED, f"{reason}; at least {gate.min_days} days are needed")
    if state.better >= 1 / alpha:
        return check(Outcome.PASS, reason)
    if state.worse >= 1 / alpha:
        return check(Outcome.FAIL, f"{reason}; the challengers are worse (E = {state.worse:.2f} for worse)")
    return check(Outcome.UNDECIDED, reason + nights)
