"""Whether a version that served before, or that a person wants to serve, can: loaded afresh and made to score today's rows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.domain.night import Night, NightRequest
from ratchet.domain.snapshots import Snapshot
from ratchet.domain.windows import DAY, Span
from ratchet.steps import history, quarantine
from ratchet.steps.champion import problem_of
from ratchet.steps.context import Context
from ratchet.tables import FeatureQuery, TableFiles

if TYPE_CHECKING:
    from datetime import date

    from ratchet.domain.ledger import Champion
    from ratchet.domain.snapshots import Pin
    from ratchet.domain.source_rules import Table
    from ratchet.spec import Pipeline
    from ratchet.steps.context import Services
    from ratchet.steps.quarantine import Exclusions
    from ratchet.tables import FeatureFrame

_ROWS = 2000  # of the newest day; a schema that has changed shows in any of them
_NIGHTS = 20  # back to which a night is looked for that got as far as validated data
_REACHES = (1, 8)  # days that are tried before the whole window: a query that looks back may keep no row of one day


def tried(services: Services, pipeline: Pipeline, version: Champion, night: Night | None = None) -> tuple[bool, str]:
    """Say whether a version can serve today, and what shows it.

    Its artifact is downloaded anew and its digest checked before anything parses it; then a fresh process loads it and
    scores rows of the newest day, which its own features query has made.

    Args:
        services: the adapters.
        pipeline: whose version it is.
        version: with the digest that was recorded of it.
        night: whose rows are scored; by default the newest that got as far as validated data.
    """
    name = f"version {version.version}"
    another = _another(services, pipeline.name, version)
    if another:
        return False, f"{name} {another}"
    try:
        folder, files = services.registry.download(version.mlflow_run_id, version.artifact_digest, fresh=True)
        seen = night if night and night.snapshot and night.validate_ else _newest(services, pipeline.name)
        if seen is None:
            return False, f"{name} could not be tried: no night has validated any data of {pipeline.name} yet"
        frame, day = _frame(services, pipeline, files.features, seen)
        if not frame.table.num_rows:
            return False, f"{name} could not be tried: its features query keeps no row of the newest snapshot"
        rows = frame.table.slice(0, _ROWS)
        with tempfile.TemporaryDirectory(prefix="ratchet-") as made:
            import pyarrow.parquet as pq  # noqa: PLC0415  half a second that a refusal need not spend

            pq.write_table(rows, Path(made) / "rows.parquet")
            problem = services.trainer.smoke(folder, version.artifact_digest, Path(made) / "rows.parquet", None).problem
    except Exception as exc:  # noqa: BLE001  an old model may fail in ways of its own
        return False, f"{name}: {problem_of(exc)}"
    if problem:
        return False, f"{name} does not score today's rows: {problem}"
    return True, f"{name} was loaded afresh and scored {rows.num_rows} rows up to {day}"


def _another(services: Services, name: str, version: Champion) -> str | None:
    """Say why the registry's version of that number is not the one that is meant: the alias would name another model."""
    there = next((found for found in services.registry.versions(name) if found.version == version.version), None)
    if there is None:
        return "was deleted from the registry, or its tags were changed, so the alias could not follow"
    if there.mlflow_run_id != version.mlflow_run_id:
        return f"is another model in the registry now: expected MLflow run {version.mlflow_run_id}, found {there.mlflow_run_id}"
    return None


def _newest(services: Services, name: str) -> Night | None:
    return next((n for n in history.nights(services, name, _NIGHTS) if n.snapshot and n.validate_), None)


def _frame(services: Services, pipeline: Pipeline, sql: str, night: Night) -> tuple[FeatureFrame, date]:
    """Run a version's own features query over the newest day, or over more where it keeps no row of that."""
    assert night.snapshot
    assert night.validate_
    key = layout.snapshot(pipeline.name, night.snapshot.digest)
    snapshot = Snapshot.model_validate_json(services.store.get(key))
    less = quarantine.exclusions(services, pipeline.name, night.validate_)
    rows = [pin for pin in snapshot.tables["rows"] if pin.partition_name not in less.partitions]
    newest = max((day for pin in rows for day in _days(pin) if day in snapshot.window), default=snapshot.window.last)
    for reach in (*_REACHES, (newest - snapshot.window.first).days + 1):
        span = Span(first=max(newest - DAY * (reach - 1), snapshot.window.first), last=newest)
        frame = _features(services, pipeline, sql, snapshot.model_copy(update={"window": span}), rows, less)
        if frame.table.num_rows:
            break
    return frame, newest


def _features(
    services: Services, pipeline: Pipeline, sql: str, snapshot: Snapshot, rows: list[Pin], less: Exclusions
) -> FeatureFrame:
    spec, span = pipeline.spec, snapshot.window
    request = NightRequest(pipeline=pipeline.name, cutoff=snapshot.cutoff)
    ctx = Context(pipeline=pipeline, night=Night(request=request), services=services)
    tables = {"rows": _table(ctx, spec.source, rows, span, less)}
    for name, side in spec.source.tables.items():
        before = Span(first=span.first - DAY * side.days_before, last=span.last)
        tables[name] = _table(ctx, side, list(snapshot.tables.get(name, ())), before)
    hidden, target = spec.source.unknown_at_prediction, spec.target
    query = FeatureQuery(tables=tables, sql=sql, hidden=hidden, target=target.sql, group=target.group)
    return services.engine.features(query)


def _table(ctx: Context, table: Table, pins: list[Pin], span: Span, less: Exclusions | None = None) -> TableFiles:
    from ratchet.steps import frames  # noqa: PLC0415  brings pyarrow
    from ratchet.steps.snapshot import date_column  # noqa: PLC0415

    near = [pin for pin in pins if not _days(pin) or any(day in span for day in _days(pin))]
    files = frames.readable(ctx, table, near or pins[-1:], less)
    return TableFiles(files=files, date_column=date_column(table), days=span, ignore=table.ignore)


def _days(pin: Pin) -> tuple[date, ...]:
    return (pin.day,) if pin.day else pin.days or ()
