"""The verdict: the total function from everything that is known of a challenger to PASS, FAIL or UNDECIDED."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.checks import Check, Outcome
from ratchet.domain.evidence import evidence_check
from ratchet.domain.gates import BoundGate, EvidenceGate, Gate
from ratchet.domain.records import Record
from ratchet.domain.rules import baselines_check, rule_check

if TYPE_CHECKING:
    from ratchet.domain.case import CaseForPromotion

SMOKE_TEST, BASELINES = "smoke test", "baselines"


class Verdict(Record):
    """The whole decision; PASS only when every check that applies has passed."""

    outcome: Outcome
    bootstrap: bool
    checks: tuple[Check, ...]

    @property
    def overridable(self) -> bool:
        """Whether a person may promote all the same: nothing failed, and the registered artifact was tried and is right."""
        smoke = [c.outcome is Outcome.PASS for c in self.checks if c.kind == SMOKE_TEST]
        failed = any(c.outcome is Outcome.FAIL for c in self.checks)
        return self.outcome is Outcome.UNDECIDED and smoke == [True] and not failed

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not a PASS, or what passed."""
        against = tuple(f"{c.name}: {c.reason}" for c in self.checks if c.outcome in {Outcome.FAIL, Outcome.UNDECIDED})
        return against or tuple(f"{c.name}: {c.reason}" for c in self.checks if c.outcome is Outcome.PASS)


def judge(case: CaseForPromotion, gates: tuple[Gate, ...]) -> Verdict:
    """Turn evidence into a verdict. Total: every input gives one, nothing raises, and nothing passes by accident."""
    checks = [_check(gate, case).model_copy(update={"kind": gate.kind}) for gate in gates]
    untried = Check(name=SMOKE_TEST, outcome=Outcome.UNDECIDED, reason="the registered artifact was not tried")
    checks.append((case.smoke or untried).model_copy(update={"kind": SMOKE_TEST}))
    outcomes = {check.outcome for check in checks}
    if checks[-1].outcome is not Outcome.PASS:
        outcomes.add(Outcome.UNDECIDED)  # no other check makes up for an artifact that was not tried
    if beaten := baselines_check(case):
        checks.append(beaten.model_copy(update={"kind": BASELINES}))
        outcomes.add(beaten.outcome)
    bound = any(isinstance(gate, BoundGate) for gate in gates)
    if not bound and not case.champion:
        reason = "no champion yet, and no gate of kind 'bound' that could speak for the first one"
        checks.append(Check(kind="bootstrap", name="bootstrap", outcome=Outcome.UNDECIDED, reason=reason))
        outcomes.add(Outcome.UNDECIDED)
    if (
        case.champion and case.champion_problem
    ):  # also where no gate compares with it: what cannot be read is not replaced
        checks.append(
            Check(kind="champion problem", name="champion", outcome=Outcome.UNDECIDED, reason=case.champion_problem)
        )
        outcomes.add(Outcome.UNDECIDED)
    for finding in case.findings:  # whatever the gates are: suspect data proves nothing
        if finding.action != "warn":
            name = f"{finding.kind} {finding.subject}".strip()
            held = Check(kind="data", name=name, outcome=Outcome.UNDECIDED, reason=finding.words)
            checks.append(held.model_copy(update={"value": finding.value, "limit": finding.limit}))
            outcomes.add(Outcome.UNDECIDED)
    if Outcome.FAIL in outcomes:
        outcome = Outcome.FAIL
    elif Outcome.UNDECIDED in outcomes or all(check.outcome is not Outcome.PASS for check in checks[: len(gates)]):
        outcome = Outcome.UNDECIDED
    else:
        outcome = Outcome.PASS
    return Verdict(outcome=outcome, bootstrap=not case.champion, checks=tuple(checks))


def _check(gate: Gate, case: CaseForPromotion) -> Check:
    if not isinstance(gate, EvidenceGate):
        return rule_check(gate, case)
    if not case.champion:
        return Check(name=gate.name, outcome=Outcome.NOT_APPLICABLE, reason="no champion yet: this is the bootstrap")
    if case.champion_problem:
        reason = f"the champion cannot be compared: {case.champion_problem}"
        return Check(name=gate.name, outcome=Outcome.UNDECIDED, reason=reason)
    return evidence_check(gate, case.trial)
