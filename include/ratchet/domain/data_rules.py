"""What a spec asks of its data: when a partition is complete, what breaks out of it, and what the window is watched for."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt, field_validator

from ratchet.domain.records import Record

Action = Literal["off", "warn", "hold", "reject"]
_ACTIONS = "off; warn: an alert; hold: not promoted unless a person overrides; reject: the night ends before training."


BesideName = Annotated[str, Field(min_length=1, pattern=r"^[^/\x00-\x1f\x7f]+$")]


class _Completion(Record):
    wait_hours: StrictFloat = Field(
        3.0,
        ge=0,
        allow_inf_nan=False,
        description="How long after it was due a night in Airflow (or `ratchet run --wait`) waits for it, without holding a worker; then it "
        "is rejected as incomplete.",
    )


class ByMarker(_Completion):
    """A partition is complete when an object beside it says so."""

    by: Literal["marker"] = Field(description="A marker object beside the data.")
    name: BesideName = Field(
        "_SUCCESS",
        description="The marker's name, in the folder of the partition. Where the days share one folder it must hold the day: "
        "`{date}.done`, in the parts that the pattern knows.",
    )


class ByManifest(_Completion):
    """A partition is complete when every object that its manifest names is there, in the size that it names; no other is read."""

    by: Literal["manifest"] = Field(description="A JSON object beside the data that names its files.")
    name: BesideName = Field(
        "_manifest.json",
        description='The manifest\'s name, in the folder of the partition: {"files": [{"name": …, "size": …, "sha256": …}]}, '
        "sha256 where it is known. Where the days share one folder it must hold the day: `{date}.manifest.json`.",
    )


class ByQuiet(_Completion):
    """A partition is complete when nothing has been written to it for a while. The one rule of a night that looks at the clock."""

    by: Literal["quiet"] = Field(description="No object of the partition is younger; judged by the clock.")
    minutes: StrictFloat = Field(
        15.0, gt=0, allow_inf_nan=False, description="How long nothing must have been written."
    )


Completion = Annotated[ByMarker | ByManifest | ByQuiet, Field(discriminator="by")]


class VolumeCheck(Record):
    """How many rows a day has."""

    action: Action = Field("warn", description=_ACTIONS)
    factor: StrictFloat = Field(
        2.0,
        gt=1,
        allow_inf_nan=False,
        description="Found when there are so many times more, or fewer, rows than on the same weekday before, and the days before did "
        "not scatter as widely.",
    )


class NullsCheck(Record):
    """How many values are missing: NULL, NaN or blank text. Of each column of the source, and of each feature."""

    action: Action = Field("warn", description=_ACTIONS)
    jump: StrictFloat = Field(
        0.1,
        gt=0,
        le=1,
        description="Found when the share of missing values leaves the range that the days before have seen by more than this.",
    )


class LabelsCheck(Record):
    """How often a class comes, or how high a regression's label is on average."""

    action: Action = Field("hold", description=_ACTIONS)
    jump: StrictFloat = Field(
        0.2,
        gt=0,
        le=1,
        description="Found when the share of a class leaves the range that the days before have seen by more than this.",
    )
    sds: StrictFloat = Field(
        4.0,
        gt=0,
        allow_inf_nan=False,
        description="Found, too, when its log-odds (of a regression: the mean) leave that range by more than so many robust standard "
        "deviations of the days before.",
    )


class FutureCheck(Record):
    """Dates and times of tomorrow, in columns that never had any."""

    action: Action = Field("warn", description=_ACTIONS)


class DuplicatesCheck(Record):
    """Rows that come more than once."""

    action: Action = Field("hold", description=_ACTIONS)
    share: StrictFloat = Field(
        0.01,
        ge=0,
        le=1,
        description="Found when more than this share of a partition's rows comes again in another, or in itself. Where no key names the "
        "rows, so many more than chance explains.",
    )


class OverlapCheck(Record):
    """Rows that stand on both sides of the cut between training and hold-out."""

    action: Action = Field("reject", description=_ACTIONS)
    share: StrictFloat = Field(
        0.01, ge=0, le=1, description="Found when more than this share of the hold-out's rows also stands in training."
    )


class LeakCheck(Record):
    """One feature that nearly decides the label."""

    action: Action = Field("hold", description=_ACTIONS)
    auc: StrictFloat = Field(
        0.99, gt=0.5, le=1, description="Found when a single feature ranks the labels as well as this."
    )
    r2: StrictFloat = Field(
        0.995,
        gt=0,
        le=1,
        description="Of a regression: found when a single feature explains this share of the variance.",
    )
    allowed: tuple[str, ...] = Field(
        (), description="Features that decide the label and are known when a prediction is made all the same."
    )


class LookaheadCheck(Record):
    """Features that look past the event. The query is run again over tables that end with some days of the window."""

    action: Action = Field("hold", description=_ACTIONS)
    days: StrictInt = Field(
        1,
        ge=1,
        le=14,
        description="How many days of the window are looked at each night; which ones follows from the snapshot. Each costs a run of the features query "
        "over the days up to it.",
    )
    allowed: tuple[str, ...] = Field(
        (),
        description="Features that change with what comes later, and are known when a prediction is made all the same.",
    )


class WindowChecks(Record):
    """What single rows cannot show. The days of the hold-out, and corrected ones, are held against the days before the hold-out."""

    key: tuple[str, ...] = Field(
        (),
        description="Columns that name a row. Rows that agree in them are the same; by default all columns must agree.",
    )
    event_time: str | None = Field(
        None,
        description="DATE or TIMESTAMP column of when a row's event happened. One after the partition's own day is REJECTED (time): it is from the future.",
    )
    event_slack_hours: StrictFloat = Field(
        0.0,
        ge=0,
        le=48,
        allow_inf_nan=False,
        description="How long after the partition's own day an event may lie: where the column is in UTC and the day a local one.",
    )
    min_history: StrictInt = Field(
        14, ge=2, description="With fewer days before it no day is compared with its history."
    )
    known_days: tuple[date, ...] = Field(
        (),
        description="Days that are unusual and right, as a person has found: their volume, nulls and labels are not looked at.",
    )
    volume: VolumeCheck = Field(
        VolumeCheck(), description="How many rows a day has, against the same weekday's history."
    )
    nulls: NullsCheck = Field(
        NullsCheck(), description="How many values of a day are missing, against the days before."
    )
    labels: LabelsCheck = Field(LabelsCheck(), description="A day's labels against those of the days before.")
    future: FutureCheck = Field(
        FutureCheck(),
        description="Dates and times more than a day after the partition's own day, in columns that had none on the days before.",
    )
    duplicates: DuplicatesCheck = Field(DuplicatesCheck(), description="Rows that come more than once.")
    overlap: OverlapCheck = Field(
        OverlapCheck(), description="Rows on both sides of the cut between training and hold-out."
    )
    leak: LeakCheck = Field(LeakCheck(), description="One feature that nearly decides the label.")
    lookahead: LookaheadCheck = Field(LookaheadCheck(), description="Features that look past the event.")


class Drift(Record):
    """How far the newest partition may move from what the champion was trained on, and from the partitions before it."""

    action: Literal["off", "warn", "hold", "retrain"] = Field(
        "warn",
        description="off; warn: an alert; hold: an alert, and while the newest days differ from the partitions before them nobody is promoted "
        "unless a person overrides (days that only the champion's training did not know are a reason for a newer model, so they hold nothing); "
        "retrain: an alert, and an event of the asset `<pipeline>.drift`, on which other DAGs can be scheduled.",
    )
    alarms_per_month: StrictFloat = Field(
        1.0,
        gt=0,
        le=30,
        description="Budget of false alarms over all features, label and predictions together. The limit is what the pipeline's own past days reached so "
        "often; with too few of them (30 for one a month, after three weeks to compare with) nothing is judged, and the night says so. What is seen "
        "again within a week is one alarm.",
    )
    min_effect: StrictFloat = Field(
        0.1,
        ge=0,
        allow_inf_nan=False,
        description="Population stability index below which nothing is an alarm, however certain: large samples do not cry wolf.",
    )
    nights: StrictInt = Field(
        2, ge=1, le=7, description="An alarm is raised when drift is seen on so many nights in a row."
    )


class Validation(Record):
    """What happens to data that breaks a critical expectation."""

    suite: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")] = Field(
        description="`suites/<suite>.json`, a Great Expectations suite."
    )
    on_critical: Literal["quarantine", "quarantine_partition", "reject"] = Field(
        "quarantine",
        description="quarantine: leave out the rows that break an expectation about single rows, and the partition where it is about more; "
        "quarantine_partition: leave the whole partition out; reject: end the night.",
    )
    max_quarantined: StrictFloat = Field(
        0.1,
        ge=0,
        le=1,
        description="Reject the night when more than this share of the window's partitions is quarantined.",
    )
    max_quarantined_rows: StrictFloat = Field(
        0.02,
        ge=0,
        le=1,
        description="Reject the night when more than this share of the window's rows is quarantined one by one.",
    )
    max_broken_rows: StrictFloat = Field(
        0.1,
        ge=0,
        le=1,
        description="A partition of which more than this share of rows is broken is quarantined as a whole.",
    )
    window: WindowChecks = Field(WindowChecks(), description="What single rows cannot show.")

    @field_validator("window")
    @classmethod
    def _distinct(cls, value: WindowChecks) -> WindowChecks:
        if len(set(value.key)) != len(value.key):
            raise ValueError("key names a column twice")
        return value
