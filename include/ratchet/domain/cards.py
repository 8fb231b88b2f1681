"""A model card: what one version is, what it was made of, how good it is and where that is not known.

In the order of Mitchell and others, *Model Cards for Model Reporting* (FAT* 2019, arXiv 1810.03993). A card is data; it is
written as Markdown here and as a page by the reporter, from the same sections.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING

from ratchet.domain.explanations import Explanation
from ratchet.domain.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

UNKNOWN = "not on record"
_SMALL, _LARGE, _ONE_DIGIT, _HUNDREDS = 1e-4, 1e7, 10, 1000


class CardTable(Record):
    """Rows under headings."""

    title: str = ""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class CardSection(Record):
    """One part of a card."""

    key: str  # for links
    title: str
    words: tuple[str, ...] = ()  # paragraphs
    facts: tuple[tuple[str, str], ...] = ()  # what is called how
    points: tuple[str, ...] = ()  # a list
    tables: tuple[CardTable, ...] = ()
    code: str = ""  # a command or a query, as it is


class Card(Record):
    """Everything that is known of one version, for people."""

    pipeline: str
    version: int
    status: str  # whether it serves
    summary: str  # what the model is for
    sections: tuple[CardSection, ...]
    explanation: Explanation | None = None  # from which the page draws


def shown(value: float | None) -> str:
    """Write a number with as many digits as say something."""
    if value is None:
        return "–"
    if not isfinite(value):
        return "not a number" if value != value else f"{'' if value > 0 else '-'}infinite"  # noqa: PLR0124  NaN
    size = abs(value)
    if size and (size < _SMALL or size >= _LARGE):
        return f"{value:.2e}"
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.{4 if size < _ONE_DIGIT else 2 if size < _HUNDREDS else 0}f}"


def between(interval: tuple[float | None, float | None] | None) -> str:
    """Write an interval."""
    if interval is None or interval[0] is None or interval[1] is None:
        return "–"
    return f"{shown(interval[0])} … {shown(interval[1])}"


def markdown(card: Card) -> str:
    """Write a card as Markdown; what comes from data cannot pass for markup of ours."""
    lines = [
        f"# {_escaped(card.pipeline)} version {card.version}",
        "",
        f"**{_escaped(card.status)}**",
        "",
        _escaped(card.summary),
    ]
    for section in card.sections:
        lines += ["", f"## {_escaped(section.title)}", *_section(section)]
    return "\n".join(lines) + "\n"


def _section(section: CardSection) -> Iterator[str]:
    for words in section.words:
        yield from ("", _escaped(words))
    if section.facts:
        yield from ("", "| | |", "|---|---|")
        yield from (f"| {_escaped(name)} | {_escaped(value)} |" for name, value in section.facts)
    if section.points:
        yield ""
        yield from (f"- {_escaped(point)}" for point in section.points)
    for table in section.tables:
        yield from _table(table)
    if section.code:
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", section.code)), 3)
        yield from ("", fence, section.code, fence)


def _table(table: CardTable) -> Iterator[str]:
    if table.title:
        yield from ("", f"**{_escaped(table.title)}**")
    yield from ("", f"| {' | '.join(map(_escaped, table.columns))} |", f"|{'---|' * len(table.columns)}")
    yield from (f"| {' | '.join(map(_escaped, row))} |" for row in table.rows)
    if table.note:
        yield from ("", _escaped(table.note))


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    plain = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", plain)
