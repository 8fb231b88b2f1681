"""What a spec says of where its data lands: the table that is learnt from, those beside it, and which days a night reads."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, StrictInt, field_validator, model_validator

from ratchet.domain.completion import names_day
from ratchet.domain.data_rules import Completion
from ratchet.domain.records import Record
from ratchet.domain.snapshots import SourceFormat

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class ByPath(Record):
    """One partition per day, told by the object's key."""

    by: Literal["path"] = Field(description="The day stands in the key.")
    pattern: str = Field(
        "dt={date}/",
        description="Part of the key that holds the day, anywhere below the prefix: `dt={date}/`, `sales_{date}.csv`. {date} stands for "
        "YYYY-MM-DD, {yyyy}, {mm} and {dd} for its parts; one that stands twice must be the same both times.",
    )

    @field_validator("pattern")
    @classmethod
    def _has_date(cls, value: str) -> str:
        if "{date}" not in value and not all(part in value for part in ("{yyyy}", "{mm}", "{dd}")):
            raise ValueError("it must contain {date}, or {yyyy}, {mm} and {dd}")
        return value


class ByColumn(Record):
    """Plainly landed files whose rows carry their date."""

    by: Literal["column"] = Field(description="The day stands in a column of the rows.")
    column: str = Field(description="A DATE or TIMESTAMP column, or text that reads as one; its date is the row's day.")


Partition = Annotated[ByPath | ByColumn, Field(discriminator="by")]


class Table(Record):
    """Where one table lands and how its files are written."""

    uri: str = Field(
        description="`s3://bucket/prefix/` under which the files land; a bare `prefix/` lies in RATCHET_BUCKET.",
        examples=["s3://lake/flights/"],
    )
    format: SourceFormat = Field(description="How the files are written; .gz is recognised by CSV and JSON Lines.")
    partition: Partition = Field(ByPath(by="path"), description="How a row's day is told.")
    columns: dict[str, str] = Field({}, description="Column → DuckDB type, for CSV and JSON Lines; others are sniffed.")
    null_values: tuple[str, ...] = Field(("",), description="Texts that mean null, for CSV.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="Field separator, for CSV.")
    ignore: tuple[str, ...] = Field(
        (), description="Columns that nobody reads: a partition may have them or not, and of any type."
    )
    completion: Completion | None = Field(
        None, description="How a partition shows that it is complete; by default whatever has landed counts as such."
    )

    @model_validator(mode="after")
    def _reads_what_it_needs(self) -> Table:
        needed = {*self.columns, *([self.partition.column] if isinstance(self.partition, ByColumn) else [])}
        needed |= {*getattr(self, "unknown_at_prediction", ()), getattr(self, "known_at", None) or ""}
        both = sorted(needed & set(self.ignore))
        if both:
            raise ValueError(
                f"ignore: {both[0]!r} is named elsewhere in this table, so it cannot be ignored; name it once"
            )
        return self

    @field_validator("uri")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if ":" in value and not value.startswith("s3://"):
            raise ValueError("an address begins with s3://, and a bare prefix has no colon")
        if value.startswith("s3://") and not value.removeprefix("s3://").partition("/")[0]:
            raise ValueError("name a bucket: s3://bucket/prefix/")
        return value if value.endswith("/") else value + "/"

    @model_validator(mode="after")
    def _marker_of_a_day(self) -> Table:
        rule = self.completion
        if rule is None or rule.by == "quiet":
            return self
        if "{" in rule.name and not (names_day(rule.name) and isinstance(self.partition, ByPath)):
            raise ValueError(
                f"completion.name: {rule.name!r} has a part that stands for nothing here; {{date}}, or {{yyyy}}, {{mm}} and {{dd}}, "
                "stand for the day, where partition.by is path"
            )
        if isinstance(self.partition, ByPath) and not names_day(rule.name):
            after = re.split(r"\{(?:date|yyyy|mm|dd)\}", self.partition.pattern)[-1]
            if after and "/" not in after:
                raise ValueError(
                    f"completion.name: {rule.name!r} would speak for several days at once, for by pattern {self.partition.pattern!r} they "
                    f"share a folder; put the day into the name, such as {{date}}.{rule.name.strip('_.')}"
                )
        return self


class SideTable(Table):
    """A table that the features query joins to the rows."""

    days_before: StrictInt = Field(
        1, ge=0, description="How many days before the window its partitions are still needed."
    )
    known_at: str | None = Field(
        None,
        description="DATE or TIMESTAMP column of when a row became known; with validation.window.event_time it shows features that use what came "
        "later on the same day.",
    )


class Source(Table):
    """The table that is learnt from; the features query sees it as `rows`."""

    tables: dict[Identifier, SideTable] = Field({}, description="Side tables by the name that the query uses.")
    unknown_at_prediction: tuple[str, ...] = Field(
        (), description="Columns that are not known when a prediction is made. The features query cannot see them."
    )

    @field_validator("tables")
    @classmethod
    def _not_rows(cls, value: dict[str, SideTable]) -> dict[str, SideTable]:
        if "rows" in value:
            raise ValueError("'rows' is the name of the source itself; call the side table something else")
        return value


class Window(Record):
    """Which days a night reads. The hold-out is the end of the window; early stopping watches the days before it."""

    days: StrictInt = Field(ge=3, description="Length of the window in days, the hold-out included.")
    holdout_days: StrictInt = Field(
        7, ge=1, description="Days at the end that the fit never sees; both models are compared there."
    )
    stop_days: StrictInt = Field(7, ge=1, description="Days before the hold-out on which early stopping watches.")
    label_delay_days: StrictInt = Field(0, ge=0, description="Days until a label is known; newer rows are not used.")
    min_partitions: StrictInt = Field(
        1, ge=1, description="With fewer days of data in the window the night is skipped."
    )
    min_rows: StrictInt = Field(1, ge=1, description="With fewer rows to fit on the night is skipped.")
    max_age_days: StrictInt | None = Field(
        None, ge=0, description="Reject as stale when the newest partition is older than this at the cutoff."
    )

    @model_validator(mode="after")
    def _fits(self) -> Window:
        if self.holdout_days + self.stop_days >= self.days:
            raise ValueError(
                f"holdout_days + stop_days = {self.holdout_days + self.stop_days} leave nothing of {self.days} days to fit on"
            )
        return self
