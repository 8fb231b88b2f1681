"""Whether features of a day are what they were when the day was the newest: those that are not look past the event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.findings import Finding
from ratchet.domain.records import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from ratchet.domain.models import ModelVersion
    from ratchet.domain.windows import Span

    Floats = np.ndarray[Any, np.dtype[np.float64]]

_ROUNDING = {"double": 1e-9, "float": 1e-5}  # of the column's largest value: sums over other rows are rounded otherwise


def in_turn(days: Sequence[date], seed: str) -> list[date]:
    """Return days in an order that only ``seed`` decides."""
    return sorted(days, key=lambda day: digest([seed, str(day)]))


def changed(then: Floats, now: Floats, kind: str) -> dict[str, int]:
    """Count the values that are others now, by how they have changed; NaN stands for none.

    Args:
        then: as they were, of the same rows as ``now``.
        now: as they are.
        kind: ``double``, ``float`` (numbers, by how finely they are rounded) or ``code``, whose order means nothing.
    """
    without, gone = np.isnan(then) & ~np.isnan(now), ~np.isnan(then) & np.isnan(now)
    found = {"had no value then": without, "have none now": gone}
    if kind == "code":
        found["are another text now"] = ~np.isnan(then) & ~np.isnan(now) & (then != now)
    else:
        finite = [values[np.isfinite(values)] for values in (then, now)]
        least = _ROUNDING[kind] * max((float(np.abs(values).max()) for values in finite if len(values)), default=0.0)
        with np.errstate(invalid="ignore"):
            found["are higher now"] = now - then > least
            found["are lower now"] = then - now > least
    return {words: int(here.sum()) for words, here in found.items() if here.any()}


def met(
    holdout: Span,
    challenger: date,
    champion: ModelVersion | None,
    judged: Sequence[date],
    tuner: date | None,
) -> list[Finding]:
    """Find days that judge a model, or its parameters, although these have learnt from them.

    Args:
        holdout: the days that judge the challenger.
        challenger: the newest day that the fit which is judged has met.
        champion: who serves.
        judged: the days on which the champion was scored tonight, for the evidence.
        tuner: the newest day that the search for parameters has met; None where these were declared.
    """
    found = []
    for subject, through in {"challenger": challenger, "tuner": tuner}.items():
        if through is not None and through >= holdout.first:
            found.append(_met(subject, through, f"the hold-out {holdout} that judges it"))
    again = [day for day in judged if champion and day <= champion.seen_through]
    if champion and again:
        found.append(
            _met(f"champion v{champion.version}", champion.seen_through, f"{min(again)}, on which it was scored")
        )
    return found


def _met(subject: str, through: date, what: str) -> Finding:
    words = (
        f"{subject} has learnt from days up to {through}, and so from {what}: what it shows there proves nothing. Nothing is promoted on such "
        "evidence; find out what has changed the days since the night was begun, and run it again"
    )
    return Finding(kind="met", action="hold", subject=subject, words=words)


def shape(counts: Mapping[str, int]) -> str:
    """Say how values have changed, without any of them."""
    return ", ".join(f"{count} {words}" for words, count in counts.items())
