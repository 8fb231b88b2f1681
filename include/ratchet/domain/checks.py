"""The outcome of one rule on one run."""

from __future__ import annotations

from enum import StrEnum

from ratchet.domain.records import Record


class Outcome(StrEnum):
    """How a check or a verdict came out."""

    PASS = "PASS"  # noqa: S105  an outcome, no password
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    NOT_APPLICABLE = "NOT_APPLICABLE"  # of a check only: there is no champion to compare with


class Check(Record):
    """The outcome of one gate on one run."""

    kind: str = ""  # the gate's; "smoke test", "baselines", "bootstrap", "champion problem" or "data" of those that are always made
    name: str
    outcome: Outcome
    reason: str
    value: float | None = None
    limit: float | None = None
