"""What the gates of a spec want to know of tonight's models and data, as plain numbers; nothing else is computed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.case import DataHealth, DayLoss, Level, MetricValue, SharedMetric
from ratchet.domain.drift import index_of_counts, stability_index
from ratchet.domain.gates import AgeGate, DriftGate, SliceGapGate, SlicesGate, StabilityGate
from ratchet.domain.losses import daily_losses
from ratchet.steps import frames, turns
from ratchet.steps.baselines import baselines
from ratchet.steps.binning import bins_of, counts
from ratchet.steps.champion import refuse_strange
from ratchet.tables import lists_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date

    import pyarrow as pa

    from ratchet.domain.gates import Loss
    from ratchet.domain.models import ModelFiles, Task
    from ratchet.steps.context import Context
    from ratchet.tables import FeatureFrame, Floats


class Scored:
    """A model on a table."""

    def __init__(self, ctx: Context, files: ModelFiles, table: pa.Table) -> None:
        trainer, self.measuring = ctx.services.trainer, ctx.pipeline.spec.measuring
        refuse_strange(files, self.measuring)
        self.files = files
        self.classes = files.schema_.classes
        self.table = table
        self.lists = lists_in(table)  # of a ranking, the number of each row's list
        self.days = table["dt"].to_numpy().astype("datetime64[D]")
        self.y: Floats = trainer.labels(files, table)
        self.predictions: Floats = trainer.predict(files, table)
        self.metrics: Mapping[str, float | None] = trainer.metrics(self.measuring, self.y, self.predictions, self.lists)

    def of_lists(self, rows: Any) -> Any:
        """Return the lists of some rows, where they stand in any."""
        return None if self.lists is None else self.lists[rows]

    def daily(
        self, loss: Loss, rows: Any = slice(None), predictions: Floats | None = None
    ) -> dict[str, tuple[int, float]]:
        """Return rows and mean loss by day, over some of the rows, of the model or of other predictions."""
        p = self.predictions if predictions is None else predictions
        return daily_losses(loss, self.days[rows], self.y[rows], p[rows], self.measuring, self.of_lists(rows))


class Common:
    """Two models on the rows that both have scored."""

    def __init__(self, champion: Scored, challenger: Scored) -> None:
        theirs, ours = champion.table["row_id"].to_numpy(), challenger.table["row_id"].to_numpy()
        _, self._theirs, self.ours = np.intersect1d(theirs, ours, assume_unique=True, return_indices=True)
        self.champion, self.challenger = champion, challenger
        self.rows = len(self.ours)

    @property
    def theirs(self) -> Any:
        """Which rows of the champion's table those of ``ours`` are."""
        return self._theirs

    def paired(self, loss: Loss, which: Any = slice(None)) -> tuple[DayLoss, ...]:
        """Return both models' daily losses, over some of the rows."""
        theirs, ours = (
            side.daily(loss, rows)
            for side, rows in ((self.champion, self._theirs[which]), (self.challenger, self.ours[which]))
        )
        return tuple(
            DayLoss(day=day, rows=rows, champion=value, challenger=ours[day][1])
            for day, (rows, value) in theirs.items()
        )

    def shared(
        self, metrics: Callable[[Floats, Floats, Any], Mapping[str, float | None]], which: Any
    ) -> dict[str, SharedMetric]:
        """Return both models' metrics, over some of the rows."""
        theirs, ours = (
            metrics(side.y[rows], side.predictions[rows], side.of_lists(rows))
            for side, rows in ((self.champion, self._theirs[which]), (self.challenger, self.ours[which]))
        )
        count = len(self.ours[which])
        return {
            name: SharedMetric(champion=theirs.get(name), challenger=value, rows=count) for name, value in ours.items()
        }

    def flips(self, gate: StabilityGate) -> MetricValue:
        """Return the share of rows on which the two would be acted on differently."""
        theirs, ours = self.champion.predictions[self._theirs], self.challenger.predictions[self.ours]
        task = self.challenger.files.schema_.task
        if task == "binary":
            differ = (theirs >= gate.threshold) != (ours >= gate.threshold)
        elif task == "multiclass":
            names = [
                np.array(side.classes)[p.argmax(axis=1)]
                for side, p in ((self.champion, theirs), (self.challenger, ours))
            ]
            differ = names[0] != names[1]
        else:
            differ = moved(task, ours, theirs, gate.tolerance, self.challenger.of_lists(self.ours))
        return MetricValue(value=float(differ.mean()) if self.rows else None, rows=self.rows)


def measures(ctx: Context, frame: FeatureFrame, challenger: Scored, common: Common | None) -> dict[str, Any]:
    """Return the fields of a case that some gate of the spec, or the report, looks at.

    Args:
        ctx: the night.
        frame: the challenger's features of the whole window.
        challenger: on the hold-out.
        common: it and the champion on the rows that both have scored; None where there is no champion that can be.
    """
    gates = ctx.pipeline.spec.gates
    wanted: dict[str, Any] = {
        "levels": _levels(ctx, challenger, frame),
        "health": _health(ctx, frame),
        "served_days": _served(ctx) if any(isinstance(g, AgeGate) for g in gates) else None,
        **baselines(ctx, frame, challenger),
    }
    drift = [g for g in gates if isinstance(g, DriftGate)]
    if drift:
        wanted["drift"] = _drift(ctx, frame, challenger)
    if any(g.predictions_at_most is not None for g in drift):
        wanted["prediction_drift"] = _prediction_drift(ctx, frame, challenger)
    if common:
        compared = {(g.column, g.loss) for g in gates if isinstance(g, SlicesGate)}
        if "slice_worse" in ctx.pipeline.spec.approval.when:
            compared |= {(column, ctx.pipeline.spec.loss) for column in ctx.pipeline.spec.evaluation.slices}
        wanted["slices"] = _slices(compared, common)
        wanted["shared"] = _shared(ctx, [g for g in gates if isinstance(g, SliceGapGate)], common)
        wanted["flips"] = {g.key: common.flips(g) for g in gates if isinstance(g, StabilityGate)}
    return wanted


def moved(task: Task, ours: Floats, theirs: Floats, tolerance: float, lists: Any) -> Any:
    """Say which values would be acted on differently: of a quantile task, any quantile; of a ranking, which lists begin with another row."""
    if task == "ranking":
        order = [np.lexsort((-scores, lists)) for scores in (ours, theirs)]
        starts = np.unique(lists[order[0]], return_index=True)[1]
        return order[0][starts] != order[1][starts]
    differ = np.abs(ours - theirs) > tolerance * np.abs(theirs)
    return differ.any(axis=1) if differ.ndim > 1 else differ


_LIKE_NULL = re.compile(r"'*NULL'*")


def _slice_name(value: Any) -> str:
    """Name the slice of one value: that of rows without any is NULL, and a text that reads so stands between quotes."""
    text = "NULL" if value is None else str(value)
    return f"'{text}'" if value is not None and _LIKE_NULL.fullmatch(text) else text


class Slices:
    """A slice column: its values as texts, in order, and which of them each row has. No two values are one slice."""

    def __init__(self, table: pa.Table, column: str) -> None:
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.compute as pc  # noqa: PLC0415

        found = pc.dictionary_encode(table[column].combine_chunks(), null_encoding="encode")
        texts = [_slice_name(value) for value in found.dictionary.to_pylist()]
        self.names = sorted(set(texts))
        numbers = {name: number for number, name in enumerate(self.names)}
        self.codes = np.array([numbers[text] for text in texts], dtype=np.int32)[found.indices.to_numpy()]
        self.texts: pa.Array = pa.array(self.names, pa.string()).take(pa.array(self.codes))

    def largest(self, rows: Any, most: int) -> Iterator[tuple[str, Any]]:
        """Yield the values that most of some rows have, and where among these they stand."""
        codes = self.codes[rows]
        counts = np.bincount(codes, minlength=len(self.names))
        order, ends = np.argsort(codes, kind="stable"), np.cumsum(counts)
        for number in np.argsort(-counts, kind="stable")[:most].tolist():
            if counts[number]:
                yield self.names[number], order[ends[number] - counts[number] : ends[number]]

    def among(self, rows: Any = slice(None)) -> Iterator[tuple[str, Any]]:
        """Yield each value that some rows have, and which of these rows have it."""
        codes = self.codes[rows]
        for number in np.unique(codes):
            yield self.names[number], codes == number


def _levels(ctx: Context, challenger: Scored, frame: FeatureFrame) -> dict[str, Level]:
    """Return how high predictions and labels are: by class, or by value."""
    y, past = challenger.y, _past(ctx, challenger, frame, ctx.windows.fit.first)
    task = challenger.files.schema_.task
    if not len(y) or not len(past) or task == "ranking":  # how high its scores are says nothing
        return {}
    if task == "quantile":
        return _quantile_levels(challenger, past)
    if task == "multiclass":
        sides = {name: (challenger.predictions[:, i], y == i, past == i) for i, name in enumerate(challenger.classes)}
    else:
        sides = {"": (challenger.predictions, y, past)}
    return {
        name: Level(
            predicted=float(p.mean()),
            observed=float(now.mean()),
            training=float(then.mean()),
            spread=float(then.std()),
            rows=len(now),
            events=len(now) if task == "regression" else int(now.sum()),
            continuous=task == "regression",
        )
        for name, (p, now, then) in sides.items()
    }


def _quantile_levels(challenger: Scored, past: Floats) -> dict[str, Level]:
    y, quantiles = challenger.y, challenger.measuring.quantiles
    return {
        f"{quantile:g}": Level(
            predicted=float(p.mean()),
            observed=float(np.quantile(y, quantile)),
            training=float(np.quantile(past, quantile)),
            spread=float(past.std()),
            rows=len(y),
            events=len(y),
            continuous=True,
            quantile=quantile,
            below=float((y <= p).mean()),
        )
        for quantile, p in zip(quantiles, challenger.predictions.T, strict=True)
    }


def _past(ctx: Context, challenger: Scored, frame: FeatureFrame, first: date) -> Floats:
    """Return the labels from a day to the last one that training looked at."""
    rows = frame.days(first, ctx.windows.stop.last, ("target",))
    return ctx.services.trainer.labels(challenger.files, rows)


def _health(ctx: Context, frame: FeatureFrame) -> DataHealth:
    night = ctx.night
    assert night.snapshot
    assert night.validate_
    counts = {day["values"]: day["counts"] for day in frame.table["dt"].value_counts().to_pylist()}
    newest = counts.pop(ctx.windows.newest, 0)
    return DataHealth(
        partitions=night.snapshot.partitions,
        quarantined=len(night.validate_.quarantined),
        warnings=len(night.validate_.warnings),
        rows=frame.landed,
        unlabelled=frame.unlabelled,
        newest_rows=newest,
        usual_rows=float(np.median(list(counts.values()))) if counts else 0.0,
    )


def _served(ctx: Context) -> int | None:
    """Return the days from the newest one that the champion was judged by to tonight's cutoff."""
    assert ctx.night.score
    reign = ctx.night.score.reign
    entry = next((e for e in turns.look(ctx.services, ctx.pipeline.name) if e.seq == reign), None)
    return (ctx.night.request.cutoff - entry.judged_through).days if entry else None


def _slices(compared: set[tuple[str, Loss]], common: Common) -> dict[str, dict[str, dict[str, tuple[DayLoss, ...]]]]:
    found: dict[str, dict[str, dict[str, tuple[DayLoss, ...]]]] = {}
    for column, loss in sorted(compared):
        for value, here in Slices(common.challenger.table, column).among(common.ours):
            found.setdefault(column, {}).setdefault(value, {})[loss] = common.paired(loss, here)
    return found


def _shared(ctx: Context, gates: list[SliceGapGate], common: Common) -> dict[str, SharedMetric]:
    how = ctx.pipeline.spec.measuring
    found: dict[str, SharedMetric] = {}
    for column in sorted({gate.column for gate in gates if gate.margin is not None}):
        for value, here in Slices(common.challenger.table, column).among(common.ours):
            both = common.shared(lambda y, p, lists: ctx.services.trainer.metrics(how, y, p, lists), here)
            found |= {f"{name}[{column}={value}]": metric for name, metric in both.items()}
    return found


def _drift(ctx: Context, frame: FeatureFrame, challenger: Scored) -> dict[str, MetricValue]:
    found, rows = {}, challenger.table.num_rows
    for feature in challenger.files.schema_.features:
        before = frame.days(ctx.windows.fit.first, ctx.windows.fit.last, (feature.name,))[feature.name]
        found[feature.name] = MetricValue(value=_moved(before, challenger.table[feature.name]), rows=rows)
        frame.forget()
    return found


def _moved(before: pa.ChunkedArray, after: pa.ChunkedArray) -> float | None:
    """Return the stability index of one column."""
    if not len(before) or not len(after):
        return None
    bins = bins_of(before)
    return index_of_counts(*(counts(side, bins) for side in (before, after)))


def _prediction_drift(ctx: Context, frame: FeatureFrame, challenger: Scored) -> MetricValue:
    """Compare with the days on which early stopping watched: the trees were not grown on them."""
    stop = frames.of_days(frame, ctx.windows.stop.first, ctx.windows.stop.last)
    before, after = ctx.services.trainer.predict(challenger.files, stop), challenger.predictions
    columns = [(before, after)] if after.ndim == 1 else [(before[:, i], after[:, i]) for i in range(after.shape[1])]
    found = [stability_index(*pair) for pair in columns]
    known = [index for index in found if index is not None]
    return MetricValue(value=max(known) if known else None, rows=len(after))
