"""Two versions on one day: their losses over the rows that both have scored."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from ratchet.domain import layout
from ratchet.domain.losses import mean_loss, row_weights
from ratchet.domain.rankings import numbered
from ratchet.errors import ObjectNotFound

if TYPE_CHECKING:
    import pyarrow as pa

    from ratchet.domain.night import DayScore
    from ratchet.steps.context import Context


def over_common_rows(ctx: Context, ours: DayScore, theirs: DayScore) -> tuple[DayScore, DayScore] | None:
    """Return a day's scores of two versions over the same rows, or None where there are none that can be compared.

    A query may leave rows out, and a day may have grown between two nights: who has left out the hard rows must not win
    by that. Rows are told by their labels too, because their numbers are those of one snapshot.
    """
    if ours.rows == theirs.rows:
        return ours, theirs
    try:
        sides = [_predictions(ctx, score) for score in (ours, theirs)]
    except ObjectNotFound:
        return None  # pruned, or of a dry run
    mine, other = (side["row_id"].to_numpy() for side in sides)
    _, *where = np.intersect1d(mine, other, assume_unique=True, return_indices=True)
    labels = [side["label"].to_numpy()[rows] for side, rows in zip(sides, where, strict=True)]
    if not len(labels[0]) or not np.array_equal(*labels):
        return None
    made, how = [], ctx.pipeline.spec.measuring
    if (
        "list" in sides[0].column_names
        and not row_weights(labels[0], numbered(sides[0]["list"].to_numpy()[where[0]])).any()
    ):
        return None  # no list of which one order is better than another
    for score, side, y, rows in zip((ours, theirs), sides, labels, where, strict=True):
        scores = np.array(side["prediction"].to_pylist(), dtype=np.float64)[rows]
        lists = side["list"].to_numpy()[rows] if "list" in side.column_names else None
        losses = {loss: mean_loss(loss, y, scores, how, lists) for loss in score.losses}
        made.append(score.model_copy(update={"rows": len(y), "losses": losses}))
    return made[0], made[1]


def _predictions(ctx: Context, score: DayScore) -> pa.Table:
    key = layout.scores(ctx.pipeline.name, score.day, score.version)
    return pq.read_table(io.BytesIO(ctx.services.store.get(key)))
