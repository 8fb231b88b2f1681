"""The plots of a ranking: how well lists are ordered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ratchet.adapters.report.sides import Side, distribution, keys, named
from ratchet.adapters.report.svg import Axis, Figure, Plot
from ratchet.domain.rankings import lists_of, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.domain.measuring import Measuring

_RANKS = 10  # points of a curve over ranks


def ranking(models: tuple[Side, ...], how: Measuring) -> Iterator[Figure]:
    """Draw NDCG by depth and by list, and where the first relevant row stands; of lists of which no order is better nothing is told."""
    known = [(m, numbered(m.lists)) for m in models if m.lists is not None]
    known = [(m, lists) for m, lists in known if (lists_of(m.y, m.p, lists, how.ndcg_at).counts > 0).any()]
    if not known:
        return
    ranks = sorted({round(rank) for rank in np.linspace(1, how.ndcg_at, _RANKS)})
    ticks = tuple((float(rank), str(rank)) for rank in ranks)
    depth = Plot(Axis(0.0, float(how.ndcg_at) + 0.5, ticks, "rows from the top"), named("NDCG"))
    first = Plot(Axis(0.0, float(how.ndcg_at) + 0.5, ticks, "rows from the top"), named("share of lists"))
    parts, told = [], []
    for m, lists in known:
        by_rank = []
        for rank in ranks:
            found = lists_of(m.y, m.p, lists, rank)
            by_rank.append(float(found.ndcg[found.counts > 0].mean()))
            depth.dot(rank, by_rank[-1], m.name, f"{m.name}: NDCG of the first {rank} rows {by_rank[-1]:.4f}")
        depth.line(ranks, by_rank, m.name)
        found = lists_of(m.y, m.p, lists, how.ndcg_at)
        counted = found.counts > 0
        parts.append((m.name, m.name, found.ndcg[counted]))
        told.append((m.name, f"{m.name} {by_rank[-1]:.4f}"))
        shares = [float((found.reciprocal_rank[counted] >= 1 / rank - 1e-12).mean()) for rank in ranks]
        first.line(ranks, shares, m.name)
        for rank, share in zip(ranks, shares, strict=True):
            first.dot(
                rank, share, m.name, f"{m.name}: {share:.1%} of the lists have a relevant row among the first {rank}"
            )
    lists = f"{int(counted.sum()):,} lists of the hold-out of which one order is better than another"
    yield Figure("NDCG by depth", depth.svg("NDCG over rows from the top"), keys(told), f"mean over {lists}")
    yield distribution(f"NDCG of the first {how.ndcg_at}, by list", "NDCG", tuple(parts), "lists")
    yield Figure(
        "Where the first relevant row stands",
        first.svg("Share of lists with a relevant row, over rows from the top"),
        keys((m.name, m.name) for m, _ in known),
        "of rows of one score the relevant one counts as the last",
    )
