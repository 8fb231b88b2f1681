"""report: the night's record and its page, written however the night came out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from ratchet.domain import layout
from ratchet.domain.night import ReportResult
from ratchet.errors import LedgerBroken
from ratchet.steps import alerts, overview
from ratchet.steps.card import keep_card
from ratchet.steps.history import newest_first, nights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.night import Night
    from ratchet.steps.context import Context

_EARLIER = 30  # nights that the page shows
_LONGEST, _LEAST = 1000, 300  # characters of a headline, and of what stands before its alerts


def report(ctx: Context) -> ReportResult:
    """Write the page and the record. A night that never got a run key is recorded under how it ended."""
    night, store, name = ctx.night, ctx.services.store, ctx.pipeline.name
    alerts.tell(ctx, night.alerts)
    run = (night.run_key or f"no-run-key-{night.outcome}")[:16] + ("-dry" if night.request.dry_run else "")
    page, record = layout.report(name, night.request.cutoff, run), layout.night(name, night.request.cutoff, run)
    known = nights(ctx.services, name, _EARLIER)
    earlier = [n for n in known if n.request.cutoff < night.request.cutoff]
    predictions = pq.read_table(io.BytesIO(store.get(night.evaluate.predictions))) if night.evaluate else None
    broken = None
    try:
        ledger = ctx.services.ledger.entries(name)
    except LedgerBroken as exc:  # the one night on which a page is needed most
        ctx.say(str(exc))
        ledger, broken = (), str(exc)
    html = ctx.services.reporter.page(night, ctx.pipeline, predictions, earlier, ledger)
    store.put(page, html, "text/html; charset=utf-8")
    result = ReportResult(page=page, record=record)
    told = night.with_result("report", result)
    store.put(record, told.model_dump_json(indent=1).encode())
    if not ctx.pipeline.segment:  # of which the overview tells in one line
        others = [n for n in known if not (n.report and n.report.record == record)]
        _index(ctx, ledger, newest_first([told, *others]), broken)
    keep_card(ctx)
    return result


def _index(ctx: Context, ledger: Sequence[LedgerEntry], known: Sequence[Night], broken: str | None) -> None:
    """Write what the overview shows of this pipeline."""
    found = overview.shown(ctx.pipeline.name, ledger, known[: overview.LATEST])
    if broken:
        found = overview.Shown(name=ctx.pipeline.name, problem=broken)
    elif ctx.pipeline.spec.segments:
        found = overview.with_segments(ctx.services, found)
    overview.keep(ctx.services, found)


def headline(night: Night) -> str:
    """Say in one line how the night came out and why."""
    version = night.register_.version.version if night.register_ and night.register_.version else None
    model = f" v{version}" if version else ""
    if night.evaluate and night.outcome in {"promoted", "refused", "undecided"}:
        shown = ", ".join(
            f"{name} {value:.4f}" for name, value in list(night.evaluate.challenger.items())[:3] if value is not None
        )
        model += f" ({shown})"
    if night.promote and night.promote.version not in {None, version}:
        model += f", v{night.promote.version} serves"
    dry = " [dry run]" if night.request.dry_run else ""
    told = "".join(f" ALERT: {alert.words}." for alert in night.alerts)
    head = f"{night.outcome.upper()}{dry}{model}: {'; '.join(night.reasons)}"
    return _cut(f"{_cut(head, max(_LONGEST - len(told), _LEAST))}{told}", _LONGEST)


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"
