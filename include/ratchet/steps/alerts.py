"""Alerts are logged, kept with the night, and delivered; that one cannot be delivered fails nothing."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ratchet.domain import layout
from ratchet.errors import ObjectNotFound, RatchetError, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratchet.domain.alerts import Alert
    from ratchet.steps.context import Context

_LOG = logging.getLogger("ratchet.alerts")


def tell(ctx: Context, alerts: Iterable[Alert]) -> None:
    """Let people know of what they have not been told of in this night yet; a dry run tells nobody."""
    for alert in alerts if not ctx.night.request.dry_run else ():
        try:
            _tell(ctx, alert)
        except RatchetError as exc:  # the alert itself has been logged by then
            _LOG.warning("the alert could not be kept: %s", exc)


def _tell(ctx: Context, alert: Alert) -> None:
    store, request = ctx.services.store, ctx.night.request
    key = layout.alert(request.pipeline, request.cutoff, alert.kind)
    try:
        store.get(key)
    except ObjectNotFound:
        pass
    else:
        return
    remedy = alert.remedy.replace("PIPELINE", request.pipeline)
    message = {
        "pipeline": request.pipeline,
        "cutoff": str(request.cutoff),
        "kind": alert.kind,
        "words": without_credentials(alert.words),
        "remedy": remedy,
        "version": alert.version,
        "run_key": ctx.night.run_key,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _LOG.error("%s, night of %s: %s. To do: %s", request.pipeline, request.cutoff, message["words"], remedy)
    problem = ctx.services.alerter.send(message)
    if problem:
        _LOG.warning("the alert could not be delivered: %s", problem)
    store.put(key, json.dumps({**message, "undelivered": problem}, indent=1).encode())
