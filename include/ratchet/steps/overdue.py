"""Is a pipeline's night overdue? Asked from outside of any night, so that it is noticed too when nothing ran at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ratchet.domain.alerts import Alert
from ratchet.domain.night import Night, NightRequest
from ratchet.steps import alerts
from ratchet.steps.context import Context
from ratchet.steps.history import nights

if TYPE_CHECKING:
    from datetime import date

    from ratchet.spec import Pipeline, PipelineSpec
    from ratchet.steps.context import Services

_LATEST = 30  # nights that are looked at


def overdue(services: Services, pipeline: Pipeline, now: datetime) -> str | None:
    """Say what is overdue, and let people know of it once a night; None where all is well.

    A night that failed has not decided. A pipeline that never had a night is not watched yet: its DAG may wait to be switched on.
    """
    spec = pipeline.spec
    due = newest_due(spec, now)
    known = [night for night in nights(services, spec.name, _LATEST) if not night.request.dry_run]
    if due is None or not known:
        return None
    scheduled, cutoff = due
    decided = max((night.request.cutoff for night in known if night.outcome != "failed"), default=None)
    if decided is not None and decided >= cutoff:
        return None
    since = f"the newest decision is that of the night of {decided}" if decided else "no night has come to one yet"
    words = f"the night of {cutoff}, scheduled for {scheduled:%Y-%m-%d %H:%M} UTC, has come to no decision by its deadline; {since}"
    asked = NightRequest(pipeline=spec.name, cutoff=cutoff, actor="watchdog")
    context = Context(pipeline=pipeline, night=Night(request=asked), services=services)
    alerts.tell(context, [Alert(kind="overdue", words=words)])
    return words


def newest_due(spec: PipelineSpec, now: datetime) -> tuple[datetime, date] | None:
    """Return when the newest night was scheduled that must have been decided by now, and its cutoff; None without a schedule."""
    from croniter import croniter  # noqa: PLC0415  only where a schedule is looked at

    if spec.schedule is None:
        return None
    waiting = spec.approval.timeout_hours if spec.approval.when else 0.0  # a person's time is not the night's
    latest = now.astimezone(UTC) - timedelta(hours=spec.deadline_hours + waiting)
    scheduled: datetime = croniter(spec.schedule, latest + timedelta(microseconds=1)).get_prev(datetime)
    return scheduled, (scheduled - timedelta(days=1)).date()
