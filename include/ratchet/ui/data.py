"""What the page on a pipeline's data shows: the partitions of its newest snapshot, and what has become of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.findings import Finding
from ratchet.domain.records import Record
from ratchet.domain.snapshots import Snapshot
from ratchet.errors import RatchetError
from ratchet.steps.history import nights
from ratchet.steps.quarantine import partitions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.domain.night import Night, ValidateResult
    from ratchet.steps.context import Services

_BACK = 14  # nights among which the newest that validated anything is looked for


class ShownPartition(Record):
    """One partition."""

    name: str
    state: Literal["whole", "rows", "good"]  # left out as a whole, or some of its rows, or nothing
    rows: int
    left_out: int
    share: float  # of the largest partition's rows, for a bar
    objects: int
    reasons: tuple[str, ...]
    late: int  # days
    docs: str | None  # where its Data Docs lie, relative to the plugin


class ShownData(Record):
    """The data of one pipeline."""

    name: str
    cutoff: str = ""  # of the newest night that validated any
    digest: str = ""  # of its snapshot
    partitions: tuple[ShownPartition, ...] = ()  # newest first
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    drift: str = ""  # in words
    problem: str | None = None  # why there is nothing to show


def look_at_data(services: Services, name: str) -> ShownData:
    """Return what is known of a pipeline's data."""
    try:
        night = next((n for n in nights(services, name, _BACK) if n.snapshot and n.validate_), None)
        if night is None or night.snapshot is None or night.validate_ is None:
            return ShownData(name=name, problem="No night has validated any data yet.")
        manifest = services.store.get(layout.snapshot(name, night.snapshot.digest))
        snapshot = Snapshot.model_validate_json(manifest)
    except RatchetError as exc:
        return ShownData(name=name, problem=str(exc))
    except ValidationError:
        return ShownData(name=name, problem="The newest snapshot's manifest cannot be read.")
    return ShownData(
        name=name,
        cutoff=str(night.request.cutoff),
        digest=night.snapshot.digest,
        partitions=tuple(_partitions(night, night.validate_, snapshot))[::-1],
        findings=night.findings,
        warnings=night.validate_.warnings,
        drift=night.score.drift.words if night.score and night.score.drift else "",
    )


def _partitions(night: Night, found: ValidateResult, snapshot: Snapshot) -> Iterator[ShownPartition]:
    assert night.snapshot
    whole = {q.partition: q for q in found.quarantined}
    single = {q.partition: q for q in found.quarantined_rows}
    docs = found.docs.rpartition("/")[0] if found.docs else None
    late = night.snapshot.difference.late
    made = partitions(snapshot.tables["rows"])
    most = max((partition.rows for partition in made), default=0) or 1
    for partition in made:
        left_out = whole.get(partition.name) or single.get(partition.name)
        yield ShownPartition(
            name=partition.name,
            state="whole" if partition.name in whole else "rows" if partition.name in single else "good",
            rows=partition.rows,
            left_out=left_out.rows if left_out else 0,
            share=partition.rows / most,
            objects=len(partition.pins),
            reasons=left_out.reasons if left_out else (),
            late=max((late.get(pin.key, 0) for pin in partition.pins), default=0),
            docs=f"{docs}/{partition.content}.html" if docs else None,
        )
