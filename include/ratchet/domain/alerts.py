"""Alerts: what a person should hear of although nobody asked, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ratchet.domain.checks import Outcome
from ratchet.domain.records import Record

if TYPE_CHECKING:
    from ratchet.domain.night import Night

AlertKind = Literal[
    "rolled_back",
    "rollback_due",
    "champion_broken",
    "alias_moved",
    "ledger_broken",
    "challengers_worse",
    "data",
    "drift",
    "overdue",
]
REMEDIES: dict[AlertKind, str] = {
    "rolled_back": "look at what the champion predicted before it is trained again; `ratchet history PIPELINE` tells the nights",
    "rollback_due": "decide: `ratchet rollback PIPELINE --reason …` sends the champion back",
    "champion_broken": "`ratchet rollback PIPELINE --reason …`, or restore its artifact",
    "alias_moved": "the ledger says who serves, and the alias follows it again, unless its version was deleted: then `ratchet rollback PIPELINE --reason …`. Find out who may move aliases; if it was meant, set it again, and take it over with `ratchet reconcile PIPELINE --adopt --reason …`",
    "ledger_broken": "nothing is promoted until it is whole: restore the entry from the object store's versions, then `ratchet reconcile PIPELINE`",
    "challengers_worse": "what is trained now is worse than what serves: look for what has changed in data, code or recipe",
    "data": "look at the days and columns that are named; the night's page lists all of them. Land again what is wrong; a day that is right goes into validation.window.known_days",
    "drift": "the night's page shows how each has moved: find out why. A fault at the source is mended there; a real change is learnt by the next nights, and needs nothing",
    "overdue": "look at the runs of DAG PIPELINE in Airflow: paused, not parsed, stuck, failed, or waiting for a person?",
}
# Where nobody served before whom a rollback could return to.
_FIRST: dict[AlertKind, str] = {
    "rollback_due": "there is nobody to go back to: see what has changed in the data. A later night's model takes its place once it passes the gates, or by `ratchet promote PIPELINE --version … --reason …` where override.allowed names you",
    "champion_broken": "there is nobody to go back to: restore its artifact, or let a later night's model take its place, by `ratchet promote PIPELINE --version … --reason …` where override.allowed names you",
}
_TOLD = 3  # findings whose words an alert carries


class Alert(Record):
    """One thing that happened in a night."""

    kind: AlertKind
    words: str  # what happened, with its numbers
    version: int | None = None  # of the model that it is about
    first: bool = False  # whether nobody served before that model

    @property
    def remedy(self) -> str:
        """What to do."""
        return _FIRST.get(self.kind, REMEDIES[self.kind]) if self.first else REMEDIES[self.kind]


def of_night(night: Night) -> tuple[Alert, ...]:
    """Return everything in a night that a person should hear of."""
    found = list(night.score.alerts) if night.score else []
    repaired = night.promote.repaired if night.promote else None
    if (
        repaired
        and night.promote
        and not night.promote.appended
        and not any(alert.kind == "alias_moved" for alert in found)
    ):
        found.append(Alert(kind="alias_moved", words=repaired))
    if night.ended and night.ended.reason == "LedgerBroken":
        found.append(Alert(kind="ledger_broken", words=night.ended.detail.rstrip(".")))
    if odd := [finding for finding in night.findings if finding.kind != "drift"]:  # drift has an alert of its own
        more = f"; and {len(odd) - _TOLD} more" if len(odd) > _TOLD else ""
        found.append(Alert(kind="data", words="; ".join(finding.words for finding in odd[:_TOLD]) + more))
    for check in night.gate.verdict.checks if night.gate else ():
        if check.kind == "evidence" and check.outcome is Outcome.FAIL:
            found.append(Alert(kind="challengers_worse", words=f"{check.name}: {check.reason}"))
    return tuple(found)
