"""The global model as a baseline of a segment's: what it predicts for the segment's rows of the hold-out, as the night of all rows has kept it."""

from __future__ import annotations

import io
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.domain.case import BaselineDay
from ratchet.domain.losses import daily_losses
from ratchet.domain.records import sha256
from ratchet.errors import ArtifactTampered
from ratchet.local_cache import full_disk_rejects, intact, remember, use

if TYPE_CHECKING:
    from pathlib import Path

    from ratchet.domain.gates import Loss
    from ratchet.domain.night import OfAllRows
    from ratchet.steps.context import Context
    from ratchet.steps.measures import Scored

GLOBAL = "global"  # the baseline's name


def global_days(ctx: Context, challenger: Scored, loss: Loss) -> tuple[BaselineDay, ...] | None:
    """Return the daily losses of the model that would serve a segment otherwise, beside the challenger's on the same rows.

    That is the global champion, on those of the rows that it has not seen. Where there is none, or it has seen them all, it is tonight's
    global challenger.

    Returns:
        None where the night of all rows has kept no prediction of them.

    Raises:
        ArtifactTampered: the kept predictions are not those that were recorded.
    """
    assert ctx.night.of_all
    if not ctx.night.of_all.sha256:  # of an older version, which could not be told from another's
        return None
    kept = _sorted(ctx, ctx.night.of_all)
    ids, rows = kept["row_id"].to_numpy(), challenger.table["row_id"].to_numpy()
    at = np.minimum(np.searchsorted(ids, rows), max(len(ids) - 1, 0))
    ours = np.flatnonzero(ids[at] == rows) if len(ids) else np.zeros(0, np.int64)
    there = kept.take(pa.array(at[ours]))
    for side in ("champion", "challenger"):
        told = there[side].is_valid().to_numpy() if side in there.column_names else np.zeros(len(ours), dtype=bool)
        if told.any():
            return _beside(challenger, loss, there.filter(pa.array(told)), side, ours[told])
    return None


def _beside(challenger: Scored, loss: Loss, kept: pa.Table, side: str, ours: np.ndarray) -> tuple[BaselineDay, ...]:
    """Compare by day; labels and classes of the kept predictions are counted as the global model counts them."""
    predictions, labels = _numbers(kept[side]), kept["label"].to_numpy()
    days, lists = challenger.days[ours], challenger.of_lists(ours)
    theirs = daily_losses(loss, days, labels, predictions, challenger.measuring, lists)
    own = challenger.daily(loss, ours)
    return tuple(
        BaselineDay(day=day, rows=rows, baseline=value, challenger=own[day][1]) for day, (rows, value) in theirs.items()
    )


def _numbers(column: pa.ChunkedArray) -> Any:
    """Return predictions as an array: a number for each row, or as many as each has."""
    whole = column.combine_chunks()
    return whole.flatten().to_numpy().reshape(len(whole), -1) if pa.types.is_list(whole.type) else whole.to_numpy()


def _sorted(ctx: Context, of_all: OfAllRows) -> pa.Table:
    """Return the kept predictions in order of their rows, mapped from the cache: hundreds of segments ask for a few rows each."""
    cache = ctx.services.cache
    folder = cache / "frames"
    file = folder / f"{of_all.sha256}-predictions.arrow"
    if not (use(cache, file) and intact(cache, file)):
        data = ctx.services.store.get(of_all.predictions)
        if (found := sha256(data)) != of_all.sha256:
            raise ArtifactTampered(f"the predictions {of_all.predictions}", of_all.sha256, found)
        with full_disk_rejects(cache, "the predictions of the night of all rows"):
            _write(pq.read_table(io.BytesIO(data)).sort_by("row_id"), folder, file)
        remember(cache, file)
    with pa.memory_map(str(file)) as mapped:
        return pa.ipc.open_file(mapped).read_all()


def _write(table: pa.Table, folder: Path, file: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = folder / f".{file.stem}-{uuid.uuid4().hex}"
    try:
        with pa.OSFile(str(aside), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
