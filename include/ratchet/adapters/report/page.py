"""Renders the page. Plots are SVG written by hand: matplotlib would take longer to import than the page takes to make."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.adapters.report import comparison, drift, history, view
from ratchet.adapters.report.card import explained
from ratchet.adapters.report.card import page as card_page
from ratchet.adapters.report.figures import figures
from ratchet.adapters.report.words import command, headline
from ratchet.domain.rivals import rivals

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2
    import pyarrow as pa

    from ratchet.domain.cards import Card
    from ratchet.domain.ledger import LedgerEntry
    from ratchet.domain.night import Night
    from ratchet.spec import Pipeline

_LEDGER, _NIGHTS = 10, 9  # entries and nights that are listed
_CLASSES = b"ratchet.classes"  # key in the predictions' schema metadata: a JSON list of the classes' names


class HtmlReporter:
    """Fulfils ``ports.Reporter``."""

    def page(
        self,
        night: Night,
        pipeline: Pipeline,
        predictions: pa.Table | None,
        earlier: Sequence[Night],
        ledger: Sequence[LedgerEntry],
    ) -> bytes:
        """See ``ports.Reporter.page``."""
        throne = view.throne(night, ledger)
        metric = view.watched_metric(pipeline)
        importance = sorted((night.train.importance if night.train else {}).items(), key=lambda pair: -pair[1])
        html = (
            environment()
            .get_template("page.html")
            .render(
                night=night,
                spec=pipeline.spec,
                windows=pipeline.spec.windows(night.request.cutoff),
                headline=headline(night, throne.after.version if throne.after else None),
                command=command(night.request),
                throne=throne,
                checks=view.checks(night, pipeline),
                compared=view.compared(night),
                rivals=rivals(night.evaluate.case) if night.evaluate else (),
                slices=view.slices(night, pipeline),
                accounting=view.accounting(night),
                timeline=view.timeline(night),
                importance=importance,
                paired=tuple(history.paired_days(night, pipeline)),
                evidence=tuple(history.evidence(night, pipeline)),
                nights_figure=history.nights(night, earlier, metric),
                figures=figures(predictions, pipeline.spec.measuring, pipeline.spec.loss, _classes(predictions)),
                slice_figures=dict(comparison.slices(night, metric)),
                drift=tuple(drift.figures(night.score.drift if night.score else None)),
                explained=explained(night.evaluate.explanation if night.evaluate else None),
                metric=metric,
                nights=(night, *earlier[:_NIGHTS]),
                ledger=tuple(ledger)[: -_LEDGER - 1 : -1],
                ledger_length=len(ledger),
            )
        )
        return html.encode(errors="replace")

    def card(self, card: Card) -> bytes:
        """See ``ports.Reporter.card``."""
        return card_page(card)


@functools.cache
def environment() -> jinja2.Environment:
    """Return the templates, which escape whatever is put into them."""
    import jinja2  # noqa: PLC0415  a CLI that writes no page has no use for it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        number=view.number,
        bytes=view.bytes_,
        count=view.count,
        short=lambda text: str(text)[:12],
        web=_web,
    )
    return environment


def _web(url: str | None) -> str:
    """Return an address that a link may lead to, or nothing: never ``javascript:``."""
    return url if url and url.startswith(("http://", "https://")) else ""


def _classes(predictions: pa.Table | None) -> tuple[str, ...]:
    metadata = (predictions.schema.metadata or {}) if predictions is not None else {}
    return tuple(str(name) for name in json.loads(metadata.get(_CLASSES, b"[]")))
