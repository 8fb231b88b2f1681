"""What a spec says of who comes to serve and stays: the league, the people who are asked, the way back, and what is kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, field_validator

from ratchet.domain.records import Record


class League(Record):
    """Who scores each new day in shadow, beside the champion."""

    size: StrictInt = Field(
        7,
        ge=0,
        le=30,
        description="How many of the last challengers score each new day; those made while its labels were awaited come on top.",
    )


ApprovalWhen = Literal["always", "bootstrap", "override", "small_gain", "slice_worse"]


class Approval(Record):
    """When a person stands between a PASS and the promotion."""

    when: tuple[ApprovalWhen, ...] = Field(
        (),
        description="When a person must approve in the Airflow UI: always; for the first champion (bootstrap); when an "
        "UNDECIDED is overridden (override); when the gain is less than small_gain; when a slice got worse. Never by default.",
    )
    small_gain: StrictFloat = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="A mean daily gain over the champion below this, in units of the gate's loss, counts as small.",
    )
    approvers: tuple[str, ...] = Field(
        (), description="Airflow users who may; with none named, anybody who may act on the DAG."
    )
    timeout_hours: StrictFloat = Field(12.0, gt=0, description="No answer within this time means no.")


class Override(Record):
    """Who may promote a challenger whose verdict is UNDECIDED."""

    allowed: tuple[str, ...] = Field(
        (),
        description="Users who may, with a reason; nobody by default. A FAIL, a failed smoke test or a wrong digest can never be overridden.",
    )


class Rollback(Record):
    """How the champion is watched once it serves, and when it is sent back without a person."""

    automatic: StrictBool = Field(
        default=False, description="Roll back without a person; otherwise only an alert is raised."
    )
    evidence: StrictFloat = Field(
        10.0,
        gt=1,
        allow_inf_nan=False,
        description="Roll back when the evidence (E) that the champion is worse than its predecessor in shadow reaches this.",
    )
    wrong_alarms_per_quarter: StrictFloat = Field(
        0.1,
        gt=0,
        lt=91,
        description="Of a streak of automatic refreshes, watched against the champion before it: false alarms a quarter.",
    )
    min_days: StrictInt = Field(5, ge=1, description="Fewer days of evidence than this never decide.")
    calibration: tuple[StrictFloat, StrictFloat] | None = Field(
        None,
        description="Circuit breaker: roll back at once when mean prediction over mean label of the newest day leaves these bounds.",
        examples=[[0.4, 2.5]],
    )
    base_rate: tuple[StrictFloat, StrictFloat] | None = Field(
        None,
        description="Circuit breaker: roll back at once when the champion's mean prediction on the newest day leaves these bounds.",
        examples=[[0.02, 0.9]],
    )
    min_rows: StrictInt = Field(100, ge=1, description="A day of fewer rows does not trip a circuit breaker.")

    @field_validator("calibration", "base_rate")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("expected two numbers, the lower bound first")
        return value


class Retention(Record):
    """What `ratchet prune` keeps beyond what champions, past and present, and the ledger need."""

    versions: StrictInt = Field(
        30, ge=0, description="The newest so many model versions, with their runs and snapshots."
    )
    days: StrictInt = Field(90, ge=0, description="Everything of nights whose cutoff is no older than this.")
