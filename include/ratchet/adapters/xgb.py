"""XGBoost: from a feature frame to a booster, and from rows to scores."""

from __future__ import annotations

import math
import os
import re
import tempfile
import warnings
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.adapters.batches import (
    Rows,
    as_numbers,
    aside,
    in_memory,
    on_disk,
    quantiles,
    refusals,
    rows_at_a_time,
    sweep,
)
from ratchet.adapters.heard import heard
from ratchet.adapters.matrix import classes_of, described, features_of, known_as, labels, matrix
from ratchet.adapters.weights import weights
from ratchet.domain.models import ModelFiles, ModelSchema
from ratchet.domain.windows import Span
from ratchet.errors import DataRejected, Problem, SpecInvalid
from ratchet.ports import Fit, Prepared, Tried

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from ratchet.domain.measuring import Measuring
    from ratchet.domain.models import Task
    from ratchet.domain.windows import Windows
    from ratchet.ports import AfterRound, TrainingPlan
    from ratchet.tables import FeatureFrame, FeatureQuery, Floats

_EVAL_METRIC: dict[Task, str] = {
    "binary": "logloss",
    "multiclass": "mlogloss",
    "regression": "rmse",
    "quantile": "quantile",
    "ranking": "ndcg",
}
_OBJECTIVE: dict[Task, str] = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "regression": "reg:squarederror",
    "quantile": "reg:quantileerror",
    "ranking": "rank:ndcg",
}


class XgbTrainer:
    """Fulfils ``ports.Trainer``.

    Args:
        cache: the local cache, where matrices lie that do not fit into memory; without one, a temporary folder.
        memory_gib: for a fit whose plan says nothing else.
    """

    def __init__(self, cache: Path | None = None, memory_gib: float = 2.0) -> None:
        self._cache, self._memory_gib = cache, memory_gib

    def fit(self, frame: FeatureFrame, days: Windows, plan: TrainingPlan, query: FeatureQuery) -> Fit:
        """See ``ports.Trainer.fit``."""
        with self.prepare(frame, days, plan, query) as prepared:
            return self.boost(prepared, plan)

    @contextmanager
    def prepare(
        self, frame: FeatureFrame, days: Windows, plan: TrainingPlan, query: FeatureQuery
    ) -> Iterator[Prepared]:
        """See ``ports.Trainer.prepare``."""
        grown = Span(first=date.min, last=days.fit.last)
        schema, rows = learnt(frame, grown, plan, query)
        refuse_unwatchable(schema, frame, days.stop)
        with self._matrices(schema, frame, grown, plan, days.stop) as (train, watch, on_disk):
            yield Prepared(schema=schema, query=query, rows=rows, train=train, watch=watch, on_disk=on_disk)

    def boost(self, prepared: Prepared, plan: TrainingPlan, after: AfterRound | None = None) -> Fit:
        """See ``ports.Trainer.boost``."""
        import xgboost as xgb

        watched = prepared.watch is not None
        curves: dict[str, dict[str, list[float]]] = {}
        with refusals(), heard() as said:  # trials may be boosted at once
            booster = xgb.train(
                parameters(plan, prepared.schema),
                prepared.train,
                plan.rounds,
                evals=[(prepared.watch, "stop")] if watched else [],
                early_stopping_rounds=plan.early_stopping_rounds if watched else None,
                evals_result=curves,
                verbose_eval=False,
                callbacks=[_asking(after)] if after else [],
            )
        _refuse_unused(said)
        best = int(booster.best_iteration) if watched else booster.num_boosted_rounds() - 1
        return made_of(booster, best, prepared, curves.get("stop", {}))

    def refit(self, frame: FeatureFrame, days: Span, plan: TrainingPlan, query: FeatureQuery, rounds: int) -> Fit:
        """See ``ports.Trainer.refit``."""
        grown = Span(first=date.min, last=days.last)
        schema, fitted = learnt(frame, grown, plan, query)
        with self._matrices(schema, frame, grown, plan) as (train, _, on_disk):
            prepared = Prepared(schema=schema, query=query, rows=fitted, train=train, watch=None, on_disk=on_disk)
            return self.boost(prepared, plan.model_copy(update={"rounds": rounds}))

    @contextmanager
    def _matrices(
        self, schema: ModelSchema, frame: FeatureFrame, days: Span, plan: TrainingPlan, watched: Span | None = None
    ) -> Iterator[tuple[Any, Any, bool]]:
        """Make the matrices of some days to learn from and of some to watch: in memory if they fit there, else on disk.

        Their numbers are held while a matrix is made, if they fit as well: XGBoost goes over them up to five times.
        """
        refuse_missing_device(plan.device)
        monotone_constraints(plan, schema)
        budget = int((plan.memory_gib or self._memory_gib) * (1 << 30))
        cache = self._cache or Path(tempfile.gettempdir()) / f"ratchet-{os.getuid()}"
        sweep(cache)
        shape = (frame.count(days) + (frame.count(watched) if watched else 0), len(schema.features))
        needed = in_memory(*shape, outputs(schema))
        too_much = needed > budget and plan.device == "cpu"  # a GPU's matrices lie there
        keep = needed + as_numbers(*shape) <= budget
        learn = Rows(schema, frame, days, weights(schema, frame, days, plan), keep=keep)
        with aside(cache, on_disk(*shape)) if too_much else nullcontext() as folder, ExitStack() as made:
            train = made.enter_context(quantiles(learn, plan, folder=folder))
            learn.forget()
            others = Rows(schema, frame, watched, keep=keep) if watched else None
            watch = made.enter_context(quantiles(others, plan, train, folder)) if others else None
            yield train, watch, too_much

    def predict(self, files: ModelFiles, table: pa.Table) -> Floats:
        """See ``ports.Trainer.predict``."""
        return predict(files.booster, files.schema_, table)

    def contributions(self, files: ModelFiles, table: pa.Table) -> Floats:
        """See ``ports.Trainer.contributions``."""
        from ratchet.adapters.xgb_shap import contributions  # noqa: PLC0415

        return contributions(files, table)

    def labels(self, files: ModelFiles, table: pa.Table) -> Floats:
        """See ``ports.Trainer.labels``."""
        return labels(files.schema_, table)

    def smoke(self, folder: Path, digest: str, rows: Path, expected: Path | None) -> Tried:
        """See ``ports.Trainer.smoke``."""
        from ratchet.adapters.smoke_server import smoker  # noqa: PLC0415

        paths = [str(path.absolute()) for path in (folder, rows, expected) if path]
        return smoker(paths[0], digest, *paths[1:])

    def linear(self, files: ModelFiles, before: pa.Table, after: pa.Table) -> Floats:
        """See ``ports.Trainer.linear``."""
        from ratchet.adapters.linear import linear_predictions  # noqa: PLC0415

        return linear_predictions(files.schema_, before, after)

    def metrics(self, how: Measuring, y: Floats, predictions: Floats, lists: Any = None) -> Mapping[str, float | None]:
        """See ``ports.Trainer.metrics``."""
        from ratchet.adapters.metrics import metrics  # noqa: PLC0415

        return metrics(how, y, predictions, lists)


def learnt(frame: FeatureFrame, days: Span, plan: TrainingPlan, query: FeatureQuery) -> tuple[ModelSchema, int]:
    """Return how the rows of some days become numbers, and how many there are.

    Raises:
        DataRejected: ``empty``, ``one_class``. SpecInvalid: target or features do not suit the task.
    """
    fit = frame.days(days.first, days.last, ("target",))
    if fit.num_rows == 0:
        raise _empty("fit", days)
    classes = classes_of(plan.task, fit)
    schema = ModelSchema(
        task=plan.task,
        features=features_of(frame, days),
        classes=classes,
        best_iteration=0,
        tables={name: dict(columns) for name, columns in frame.columns.items()},
        hidden=tuple(query.hidden),
        target=query.target,
        quantiles=plan.quantiles,
        group=query.group or "",
    )
    return schema, fit.num_rows


def refuse_unwatchable(schema: ModelSchema, frame: FeatureFrame, days: Span) -> None:
    """Refuse early-stopping days on which nothing can be watched.

    Raises:
        DataRejected: ``empty``.
    """
    if (stop := frame.days(days.first, days.last, ("target",))).num_rows == 0:
        raise _empty("early-stopping", days)
    if schema.classes and not (labels(schema, stop) >= 0).any():  # a class first met there cannot be watched
        met = ", ".join(schema.classes[:5])
        words = f"no row in the early-stopping days {days} has a class that the days before have: {met}"
        raise DataRejected("empty", f"{words}. Look at the labels of those days, or widen the window")


def parameters(plan: TrainingPlan, schema: ModelSchema) -> dict[str, Any]:
    """Return what XGBoost is asked for: the spec's own parameters, and those that follow from the task."""
    gains = {"ndcg_exp_gain": False} if plan.task == "ranking" else {}  # as the loss by which nights judge
    return {
        "eval_metric": _EVAL_METRIC[plan.task],
        **gains,
        **plan.params,
        "verbosity": 1,  # with less it keeps to itself which parameters it does not know
        "objective": _OBJECTIVE[plan.task],
        "seed": plan.seed,
        "nthread": plan.threads,
        "device": plan.device,
        **({"num_class": len(schema.classes)} if plan.task == "multiclass" else {}),
        **({"quantile_alpha": list(plan.quantiles)} if plan.task == "quantile" else {}),
        **({"monotone_constraints": constraints} if (constraints := monotone_constraints(plan, schema)) else {}),
    }


def monotone_constraints(plan: TrainingPlan, schema: ModelSchema) -> dict[str, int]:
    """Return which features a prediction may only rise by (1), or only fall by (−1), as XGBoost calls them.

    Raises:
        SpecInvalid: one is no feature, or has no order.
    """
    numbers = [f.name for f in schema.features if f.kind == "number"]
    choices = f"there are: {', '.join(numbers) or 'none'}"
    wrong = [
        Problem(
            "spec",
            f"training.monotone.{name}",
            f"{name!r} is a category, and has no order; numbers do, {choices}"
            if any(f.name == name for f in schema.features)
            else f"{name!r} is no feature of the query; of those that are numbers {choices}",
        )
        for name in plan.monotone
        if name not in numbers
    ]
    if wrong:
        raise SpecInvalid(wrong)
    return {known_as(name): 1 if way == "increasing" else -1 for name, way in plan.monotone.items()}


def outputs(schema: ModelSchema) -> int:
    """Return how many numbers the booster predicts of a row."""
    return (len(schema.classes) if schema.task == "multiclass" else len(schema.quantiles)) or 1


def refuse_missing_device(device: str) -> None:
    """Refuse a device that XGBoost does not find here: it would fit on the CPU, and only warn of it.

    Raises:
        SpecInvalid: there is none.
    """
    import xgboost as xgb

    if device == "cpu":
        return
    few = xgb.QuantileDMatrix(np.zeros((2, 1), np.float32), [0.0, 1.0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            xgb.train({"device": device, "max_depth": 1}, few, 1)
            found = next((str(w.message).rpartition(": ")[2] for w in said if "GPU" in str(w.message)), None)
        except xgb.core.XGBoostError as exc:
            found = str(exc).partition("\n")[0]
    if found:
        words = (
            f"XGBoost {xgb.__version__} finds no such device on this machine ({found}). Run the night where there is one "
            "(CUDA_VISIBLE_DEVICES says which), or fit on the cpu"
        )
        raise SpecInvalid([Problem("spec", "training.device", words)])


def made_of(booster: Any, best: int, prepared: Prepared, curves: Mapping[str, Sequence[float]]) -> Fit:
    """Return a fit of a booster: only the rounds that score are kept, so that whoever loads it by other means gets the same predictions."""
    kept = booster[: best + 1]
    kept.set_attr(best_iteration=None, best_score=None)
    gain = kept.get_score(importance_type="total_gain")
    total = sum(gain.values()) or 1.0
    return Fit(
        files=ModelFiles(
            booster=bytes(kept.save_raw("ubj")),
            features=prepared.query.sql,
            schema_=prepared.schema.model_copy(update={"best_iteration": best}),
        ),
        curves={name: tuple(values) for name, values in curves.items()},
        importance={f.name: gain.get(known_as(f.name), 0.0) / total for f in prepared.schema.features},
        rows=prepared.rows,
    )


def predict(booster: bytes, schema: ModelSchema, table: pa.Table) -> Floats:
    """Score rows with a booster's bytes.

    Quantiles that cross are put in order, row by row: that never makes their pinball loss greater (Chernozhukov,
    Fernández-Val & Galichon, Quantile and probability curves without crossing, Econometrica 78, 2010).
    """
    import xgboost as xgb

    model = xgb.Booster()
    model.load_model(bytearray(booster))
    columns = len(schema.classes) if schema.task == "multiclass" else len(schema.quantiles)
    if table.num_rows == 0:
        return np.zeros((0, columns) if columns else 0)
    step = rows_at_a_time(len(schema.features))
    parts = (table.slice(start, step) for start in range(0, table.num_rows, step))
    found = np.concatenate(
        [model.predict(xgb.DMatrix(matrix(schema, part), **described(schema))).astype(np.float64) for part in parts]
    )
    return np.sort(found.reshape(-1, columns), axis=1) if schema.task == "quantile" else found


def _empty(name: str, days: Span) -> DataRejected:
    shown = f"up to {days.last}" if days.first == date.min else str(days)
    return DataRejected(
        "empty", f"no labelled row in the {name} days {shown}; widen the window or land the missing partitions"
    )


def _asking(after: AfterRound) -> Any:
    """Return the callback that asks after each round whether to end."""
    import xgboost as xgb

    class Asking(xgb.callback.TrainingCallback):  # type: ignore[misc]  # XGBoost is untyped
        """Hands on the watched days' loss, by which early stopping goes too: the last metric's."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            curves = list(evals_log.get("stop", {}).values())
            return after(epoch, float(curves[-1][-1]) if curves else math.nan)

    return Asking()


def _refuse_unused(said: list[warnings.WarningMessage]) -> None:
    """Refuse parameters that XGBoost did not know: it only warns of them, and a misspelt one would change nothing."""
    for warning in said:
        found = re.search(r"Parameters: \{ (.*?) \} are not used", str(warning.message), re.DOTALL)
        if found:
            words = f"XGBoost does not use {found[1]} here; look for a misspelling, or remove it"
            raise SpecInvalid([Problem("spec", "training.params", words)])
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
