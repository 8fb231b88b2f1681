"""What tonight's challenger looks at, against the champion and slice by slice. It decides nothing: no gate reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain import layout
from ratchet.domain.explanations import (
    SCALES,
    Explanation,
    ImportanceDrift,
    SliceShares,
    feature_shares,
    importance_drift,
    sizes,
    slice_shares,
)
from ratchet.errors import NotExplained
from ratchet.steps.measures import Slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from ratchet.domain.models import ModelFiles
    from ratchet.steps.context import Context
    from ratchet.steps.measures import Scored
    from ratchet.tables import Floats

# TreeSHAP takes about 2 ms of one core for a row and a MiB of booster: a sample costs about a second, however large the model.
_WORK = 500_000_000  # rows times bytes
_LEAST_ROWS, _MOST_ROWS = 100, 1000
_SLICE_ROWS, _SLICES = 20, 40  # rows that a slice is topped up to; slices of a column, the largest


def explained(ctx: Context, challenger: Scored, champion: Scored | None) -> Explanation:
    """Explain a sample of the hold-out, keep all of it with the night, and return the most important."""
    made = _explanation(ctx, challenger, champion)
    key = layout.explanation(ctx.pipeline.name, ctx.run_key, dry_run=ctx.night.request.dry_run)
    ctx.services.store.put(key, made.model_dump_json(indent=1).encode())
    if made.drift and made.drift.warning:
        ctx.say(made.drift.warning)
    return made.brief


def _explanation(ctx: Context, challenger: Scored, champion: Scored | None) -> Explanation:
    table, files = challenger.table, challenger.files
    known = Explanation(of=table.num_rows, unseen=_unseen(files, table), missing=_missing(files, table))
    sample = _Sample(ctx, challenger)
    try:
        contributions = ctx.services.trainer.contributions(files, table.take(sample.rows))
    except NotExplained as exc:
        return known.model_copy(update={"problem": str(exc)})
    moved, names = sizes(contributions), _names(files)
    base = moved[sample.even]
    days = challenger.days[sample.rows[sample.even]]
    features = feature_shares(names, days, base)
    drift, theirs, problem = _drift(ctx, challenger, champion, sample, base)
    return known.model_copy(
        update={
            "rows": len(base),
            "days": len(np.unique(days)),
            "scale": SCALES[files.schema_.task],
            "features": tuple(f.model_copy(update={"champion": theirs.get(f.name)}) for f in features)
            if drift
            else features,
            "slices": tuple(_slices(sample, names, moved)),
            "drift": drift,
            "champion_problem": problem,
        }
    )


class _Sample:
    """Which rows of the hold-out are explained: some evenly over all of it, and some more of slices that these hardly meet.

    It depends on the rows and the model alone, so that a night that is run again explains the same.
    """

    def __init__(self, ctx: Context, challenger: Scored) -> None:
        table = challenger.table
        affordable = _WORK // max(len(challenger.files.booster), 1)
        wanted = min(max(affordable, _LEAST_ROWS), _MOST_ROWS)
        even = _evenly(np.arange(table.num_rows), wanted)
        self._slices = [
            (name, value, np.sort(rows))
            for name in ctx.pipeline.spec.evaluation.slices
            for value, rows in Slices(table, name).largest(slice(None), _SLICES)
        ]
        more, room = [even], wanted // 2
        for _, _, rows in self._slices:
            extra = _evenly(rows, _SLICE_ROWS) if np.isin(rows, even).sum() < _SLICE_ROWS else even[:0]
            more.append(extra[:room])
            room -= len(more[-1])
        self.rows: Any = np.unique(np.concatenate(more))
        self.even: Any = np.isin(self.rows, even)

    def slices(self) -> Iterator[tuple[str, str, Any]]:
        """Yield column, value, and which of the sample's rows have it."""
        for name, value, rows in self._slices:
            here = np.isin(self.rows, rows)
            if here.any():
                yield name, value, here


def _evenly(rows: Any, count: int) -> Any:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(np.int64)] if len(rows) else rows


def _slices(sample: _Sample, names: Sequence[str], moved: Floats) -> Iterator[SliceShares]:
    for column, value, here in sample.slices():
        yield slice_shares(column, value, names, moved[here], moved[sample.even])


def _drift(
    ctx: Context, challenger: Scored, champion: Scored | None, sample: _Sample, moved: Floats
) -> tuple[ImportanceDrift | None, dict[str, float], str]:
    """Explain the champion on the same rows, as far as it has not seen them; else say why not."""
    before = ctx.night.score.champion if ctx.night.score else None
    if champion is None or before is None:
        return None, {}, ""
    ids = challenger.table["row_id"].to_numpy()[sample.rows[sample.even]]
    _, ours, theirs = np.intersect1d(ids, champion.table["row_id"].to_numpy(), return_indices=True)
    if not len(ours):
        return None, {}, f"champion v{before.version} has no row of the hold-out that it has not seen"
    try:
        found = ctx.services.trainer.contributions(champion.files, champion.table.take(theirs))
    except NotExplained as exc:
        return None, {}, f"champion v{before.version}: {exc}"
    made, shares = importance_drift(
        before.version,
        champion.days[theirs],
        (_names(challenger.files), moved[ours]),
        (_names(champion.files), sizes(found)),
    )
    return made, shares, ""


def _names(files: ModelFiles) -> tuple[str, ...]:
    return tuple(feature.name for feature in files.schema_.features)


def _unseen(files: ModelFiles, table: pa.Table) -> dict[str, int]:
    """Count the rows whose text training never met, by feature."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    found = {}
    for feature in files.schema_.features:
        if feature.kind == "category":
            texts = table[feature.name].cast(pa.string())
            met = pc.is_in(texts, value_set=pa.array(feature.categories, pa.string()))
            found[feature.name] = pc.sum(pc.and_(pc.invert(met), pc.is_valid(texts))).as_py() or 0
    return {name: rows for name, rows in sorted(found.items(), key=lambda pair: (-pair[1], pair[0])) if rows}


def _missing(files: ModelFiles, table: pa.Table) -> dict[str, float]:
    rows = table.num_rows or 1
    found = {f.name: table[f.name].null_count / rows for f in files.schema_.features}
    return {name: share for name, share in sorted(found.items(), key=lambda pair: (-pair[1], pair[0])) if share}
