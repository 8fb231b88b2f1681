"""The part of a model card that matters most: what the version was never tried on, as far as figures show it."""

from __future__ import annotations

from calendar import month_name
from typing import TYPE_CHECKING

from ratchet.domain.cards import CardSection
from ratchet.domain.gates import METRICS, BoundGate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratchet.domain.case import CaseForPromotion, MetricValue
    from ratchet.steps.card import Facts

SPARSE = 100  # rows of a slice below which a metric says little
_FEW_DAYS = 14  # of hold-out
_FEW_EVENTS = 30  # rows of a class
_MONTHS = 12
_NAMED = 10


class Watched:
    """The metric by which slices are put in order: the first that a gate bounds, and which way is worse."""

    def __init__(self, facts: Facts) -> None:
        gates = (
            [g for g in facts.pipeline.spec.gates if isinstance(g, BoundGate) and not g.slice] if facts.pipeline else []
        )
        task = facts.schema.task if facts.schema else "binary"
        self.name: str = gates[0].metric if gates else METRICS[task][0]
        self.higher_is_better = gates[0].at_least is not None if gates else True

    def worse_first(self, value: float | None) -> float:
        """Return a key that sorts the worst value first, and unknown ones last."""
        if value is None or value != value:  # noqa: PLR0124  NaN
            return float("inf")
        return value if self.higher_is_better else -value


def by_column(case: CaseForPromotion, metric: str) -> dict[str, list[tuple[str, MetricValue]]]:
    """Return one metric of each slice, by column."""
    found: dict[str, list[tuple[str, MetricValue]]] = {}
    for key, value in case.metrics.items():
        name, bracket, place = key.partition("[")
        if bracket and name == metric:
            column, _, which = place[:-1].partition("=")
            found.setdefault(column, []).append((which, value))
    return found


def limits(facts: Facts) -> CardSection:
    """Return the section."""
    return CardSection(
        key="limits",
        title="Caveats: what it was never tried on",
        points=tuple(point for make in _LIMITS for point in make(facts)),
    )


def _season(facts: Facts) -> Iterator[str]:
    if facts.night is None or facts.pipeline is None:
        yield "On which days it was fitted is not on record."
        return
    days = facts.pipeline.spec.windows(facts.night.request.cutoff)
    met = {day.month for day in days.whole.days()}
    never = [month_name[m] for m in range(1, _MONTHS + 1) if m not in met]
    if never:
        yield f"It has never met a day in {', '.join(never)}: what is particular to these seasons is unknown to it."
    held = len(days.holdout.days())
    if held < _FEW_DAYS:
        yield f"It was judged on {held} days: what happens seldom was hardly among them."
    yield f"It was judged on days right after those it learnt from ({days.holdout}). How fast it ages is seen in the league, not here."


def _unseen(facts: Facts) -> Iterator[str]:
    found = facts.explanation
    if found is None:
        yield "How many values it met in the hold-out that training had not is not on record."
        return
    for name, rows in list(found.unseen.items())[:5]:
        yield f"{name}: {rows:,} of {found.of:,} rows of the hold-out have a text that training never met; it counts as missing."
    for name, share in found.missing.items():
        if share > 0.5:  # noqa: PLR2004  half
            yield f"{name}: {share:.0%} of the hold-out has no value."


def _sparse(facts: Facts) -> Iterator[str]:
    case = facts.night.evaluate.case if facts.night and facts.night.evaluate else None
    for column, values in by_column(case, Watched(facts).name).items() if case else ():
        sparse = sorted(name for name, v in values if v.rows < SPARSE)
        if sparse:
            named = ", ".join(sparse[:_NAMED]) + (f" and {len(sparse) - _NAMED} more" if len(sparse) > _NAMED else "")
            yield f"{column}: fewer than {SPARSE} rows of {named}; what is said of these is hardly more than chance."
    classes = facts.schema is not None and facts.schema.task in {"binary", "multiclass"}
    for name, level in case.levels.items() if case and classes else ():
        if min(level.events, level.rows - level.events) < _FEW_EVENTS:
            of = f" of class {name}" if name else ""
            yield f"{level.events:,} of {level.rows:,} rows of the hold-out are positive{of}: too few to say much."


def _never_judged(facts: Facts) -> Iterator[str]:
    """Name the classes that came with the last days only: the model that was judged did not know them, the one that serves does."""
    case = facts.night.evaluate.case if facts.night and facts.night.evaluate else None
    if facts.schema is None or facts.schema.task != "multiclass" or case is None or not case.levels:
        return
    late = [name for name in facts.schema.classes if name not in case.levels]
    if late:
        named = ", ".join(late[:_NAMED]) + (f" and {len(late) - _NAMED} more" if len(late) > _NAMED else "")
        yield (
            f"It knows of {named} from the days of its hold-out alone, to which it was fitted again: the model that was judged did not know "
            f"{'this class' if len(late) == 1 else 'these classes'}, so no figure here says how well it tells {'it' if len(late) == 1 else 'them'}."
        )


def _never_met(facts: Facts) -> Iterator[str]:
    """Count the rows of classes that the judged model had not met: the shares of those that it had do not add up to all rows."""
    case = facts.night.evaluate.case if facts.night and facts.night.evaluate else None
    if facts.schema is None or facts.schema.task != "multiclass" or case is None or not case.levels:
        return
    rows = next(iter(case.levels.values())).rows
    strange = rows - sum(level.events for level in case.levels.values())
    if strange:
        yield (
            f"{strange:,} of {rows:,} rows of the hold-out are of a class that training never met: the model that was judged is right in none of "
            "them, and every figure counts them as errors."
        )


def _labels(facts: Facts) -> Iterator[str]:
    account = facts.night.train.account if facts.night and facts.night.train else None
    if account and account.unlabelled:
        share = account.unlabelled / max(account.landed, 1)
        yield f"{share:.1%} of the landed rows have no label. Whether such rows are like the others cannot be known from the data."
    if facts.schema and facts.schema.task in {"regression", "quantile"}:
        yield "Trees do not extrapolate: no prediction lies much beyond the labels that it was fitted on."


def _found(facts: Facts) -> Iterator[str]:
    for finding in facts.night.findings if facts.night else ():
        yield f"{finding.kind} of {finding.subject}: {finding.words}"


_LIMITS: tuple[Callable[[Facts], Iterator[str]], ...] = (
    _season,
    _unseen,
    _sparse,
    _never_met,
    _never_judged,
    _labels,
    _found,
)
