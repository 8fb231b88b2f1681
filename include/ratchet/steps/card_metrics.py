"""How good a version is, as its card tells: metrics with intervals, gains, baselines, calibration, and slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.cards import CardSection, CardTable, between, shown
from ratchet.domain.rivals import CHAMPION, rivals
from ratchet.steps.card_limits import SPARSE, Watched, by_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.domain.case import CaseForPromotion, Level
    from ratchet.domain.night import EvaluateResult
    from ratchet.steps.card import Facts

_VALUES = 25  # of a slice column that are listed


def metrics(facts: Facts) -> CardSection | None:
    """Return the section of metrics, gains, baselines and calibration."""
    found = facts.night.evaluate if facts.night else None
    if found is None:
        return None
    case, theirs = found.case, found.champion or {}
    rows = tuple(
        (
            name,
            shown(value),
            between(case.intervals.get(name)),
            shown(theirs.get(name)),
            between(case.intervals.get(f"champion.{name}")),
            _differs(found, name),
        )
        for name, value in found.challenger.items()
    )
    columns = ("Metric", "Value", "95 %", "Champion of that night", "95 %", "Difference on the same rows, 95 %")
    tables = [CardTable(columns=columns, rows=rows)]
    gains = tuple(
        (
            loss,
            shown(sum(d.champion - d.challenger for d in days) / len(days)),
            between(case.intervals.get(f"gain.{loss}")),
            str(len(days)),
        )
        for loss, days in case.paired.items()
        if days
    )
    if gains:
        headings = ("Loss", "Mean daily gain over the champion", "95 %", "Days")
        tables.append(
            CardTable(
                title="Paired, on the same rows", columns=headings, rows=gains, note="Above 0: this version loses less."
            )
        )
    tables += _baselines(case)
    tables += _calibration(case)
    return CardSection(key="metrics", title="Metrics", tables=tuple(tables))


def _differs(found: EvaluateResult, name: str) -> str:
    """Write by how much a metric differs from the champion's."""
    made = found.differences.get(name)
    return (
        "–"
        if made is None or made.difference is None
        else f"{shown(made.difference)} ({between((made.low, made.high))})"
    )


def _baselines(case: CaseForPromotion) -> list[CardTable]:
    """Return whom the version was compared with: yesterday's champion and the baselines."""
    rows = tuple(
        (
            "champion of that night" if rival.name == CHAMPION else rival.name,
            rival.loss,
            shown(rival.own) if rival.days else "nothing to learn it from",
            shown(rival.challenger),
            f"{shown(rival.gain)} ({between(rival.interval)})" if rival.days else "–",
            str(rival.days),
            "yes" if rival.must else "by the gates that name it",
        )
        for rival in rivals(case)
    )
    columns = (
        "Beside",
        "Loss",
        "Its own",
        "This version's, same rows",
        "Gain, 95 % over days",
        "Days",
        "Must be beaten",
    )
    note = "Means of daily losses, smaller is better. A gain above 0: this version loses less."
    return [CardTable(title="Beside the champion and baselines", columns=columns, rows=rows, note=note)] if rows else []


def _calibration(case: CaseForPromotion) -> list[CardTable]:
    quantiles = [level for level in case.levels.values() if level.quantile is not None]
    if quantiles:
        return [_of_quantiles(quantiles)]
    rows = tuple(
        (name or "all rows", shown(level.predicted), shown(level.observed), shown(level.training), f"{level.rows:,}")
        for name, level in case.levels.items()
    )
    columns = ("Of", "Mean prediction", "Mean label", "Mean label in training", "Rows")
    return [CardTable(title="Calibration in the large", columns=columns, rows=rows)] if rows else []


def _of_quantiles(levels: Sequence[Level]) -> CardTable:
    rows = tuple(
        (shown(level.quantile), shown(level.below), shown(level.predicted), shown(level.training), f"{level.rows:,}")
        for level in levels
    )
    columns = ("Quantile", "Labels at or below it", "Mean prediction", "Of the labels in training", "Rows")
    return CardTable(title="Calibration in the large", columns=columns, rows=rows)


def slices(facts: Facts) -> CardSection | None:
    """Return the section of slices, the worst first."""
    found = facts.night.evaluate if facts.night else None
    watched = Watched(facts)
    columns = by_column(found.case, watched.name) if found else {}
    if found is None or not columns:
        return None
    case = found.case
    tables, words = [], []
    for column, values in columns.items():
        values.sort(key=lambda pair: (pair[1].rows < SPARSE, watched.worse_first(pair[1].value), pair[0]))
        sound = [(name, v) for name, v in values if v.rows >= SPARSE and v.value is not None]
        if sound:
            name, worst = sound[0]
            words.append(
                f"Worst by {column}, of values with at least {SPARSE} rows: {name}, {watched.name} {shown(worst.value)} over {worst.rows:,} rows."
            )
        rows = tuple(
            (
                name,
                f"{v.rows:,}",
                shown(v.value),
                between(case.intervals.get(f"{watched.name}[{column}={name}]")),
                _differs(found, f"{watched.name}[{column}={name}]"),
            )
            for name, v in values
        )
        more = len(rows) - _VALUES
        tables.append(
            CardTable(
                title=f"by {column}, the worst first, those of fewer than {SPARSE} rows last",
                columns=(column, "Rows", watched.name, "95 %", "Against the champion, 95 %"),
                rows=rows[:_VALUES],
                note=f"and {more} more" if more > 0 else "",
            )
        )
    return CardSection(key="slices", title="Slices", words=tuple(words), tables=tuple(tables))
