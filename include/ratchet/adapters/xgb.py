"""XGBoost: from a feature frame to a booster, and from rows to scores."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import warnings
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.adapters.matrix import ROWS, classes_of, described, features_of, known_as, labels, matrix
from ratchet.domain.models import ModelFiles, ModelSchema
from ratchet.domain.windows import Span
from ratchet.errors import DataRejected, Problem, SpecInvalid
from ratchet.ports import Fit, Prepared, Tried

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from ratchet.domain.measuring import Measuring
    from ratchet.domain.models import Task
    from ratchet.domain.windows import Windows
    from ratchet.ports import AfterRound, FeatureFrame, FeatureQuery, Floats, TrainingPlan

_EVAL_METRIC: dict[Task, str] = {"binary": "logloss", "multiclass": "mlogloss", "regression": "rmse"}
_OBJECTIVE: dict[Task, str] = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "regression": "reg:squarederror",
}


class XgbTrainer:
    """Fulfils ``ports.Trainer``."""

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
        if (stop := frame.days(days.stop.first, days.stop.last, ("target",))).num_rows == 0:
            raise _empty("early-stopping", days.stop)
        if schema.classes and not (labels(schema, stop) >= 0).any():  # a class first met there cannot be watched
            met = ", ".join(schema.classes[:5])
            words = f"no row in the early-stopping days {days.stop} has a class that the days before have: {met}"
            raise DataRejected("empty", f"{words}. Look at the labels of those days, or widen the window")
        train = _quantiles(schema, frame, grown, plan)
        watch = _quantiles(schema, frame, days.stop, plan, train)
        yield Prepared(schema=schema, query=query, rows=rows, train=train, watch=watch)

    def boost(self, prepared: Prepared, plan: TrainingPlan, after: AfterRound | None = None) -> Fit:
        """See ``ports.Trainer.boost``."""
        import xgboost as xgb

        watched = prepared.watch is not None
        curves: dict[str, dict[str, list[float]]] = {}
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
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
        except (xgb.core.XGBoostError, ValueError, TypeError) as exc:
            raise SpecInvalid(
                [Problem("spec", "training.params", f"XGBoost refused them: {_first_line(exc)}")]
            ) from exc
        _refuse_unused(said)
        best = int(booster.best_iteration) if watched else booster.num_boosted_rounds() - 1
        return made_of(booster, best, prepared, curves.get("stop", {}))

    def refit(self, frame: FeatureFrame, days: Span, plan: TrainingPlan, query: FeatureQuery, rounds: int) -> Fit:
        """See ``ports.Trainer.refit``."""
        grown = Span(first=date.min, last=days.last)
        schema, rows = learnt(frame, grown, plan, query)
        train = _quantiles(schema, frame, grown, plan)
        prepared = Prepared(schema=schema, query=query, rows=rows, train=train, watch=None)
        return self.boost(prepared, plan.model_copy(update={"rounds": rounds}))

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
        command = [sys.executable, "-m", "ratchet.adapters.smoke", str(folder), digest, str(rows)]
        command += [str(expected)] if expected else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603  our own module
        except subprocess.TimeoutExpired:
            return Tried(problem="the registered artifact gave no predictions within 300 s")
        if done.returncode == 0:
            return Tried.model_validate_json(done.stdout)
        lines = (done.stdout + done.stderr).strip().splitlines()
        status = f"the process that loaded it ended with status {done.returncode}"
        return Tried(problem=lines[-1][:500] if lines else status)

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
    )
    return schema, fit.num_rows


def parameters(plan: TrainingPlan, schema: ModelSchema) -> dict[str, Any]:
    """Return what XGBoost is asked for: the spec's own parameters, and those that follow from the task."""
    return {
        "eval_metric": _EVAL_METRIC[plan.task],
        **plan.params,
        "objective": _OBJECTIVE[plan.task],
        "seed": plan.seed,
        "nthread": plan.threads,
        "device": plan.device,
        **({"num_class": len(schema.classes)} if plan.task == "multiclass" else {}),
    }


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
    """Score rows with a booster's bytes."""
    import xgboost as xgb

    model = xgb.Booster()
    model.load_model(bytearray(booster))
    if table.num_rows == 0:
        return np.zeros((0, len(schema.classes)) if schema.task == "multiclass" else 0)
    parts = (table.slice(start, ROWS) for start in range(0, table.num_rows, ROWS))
    found = [model.predict(xgb.DMatrix(matrix(schema, part), **described(schema))).astype(np.float64) for part in parts]
    return np.concatenate(found)


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


def _quantiles(schema: ModelSchema, frame: FeatureFrame, days: Span, plan: TrainingPlan, like: Any = None) -> Any:
    """Return the days as XGBoost learns from them, read batch by batch; the bytes are those of one batch of all rows.

    A row of a class that training never met is left out: it cannot be watched.
    """
    import xgboost as xgb

    names = {key: value for key, value in described(schema).items() if key != "enable_categorical"}

    class Batches(xgb.DataIter):  # type: ignore[misc]  # XGBoost is untyped
        """XGBoost goes over the rows several times."""

        def __init__(self) -> None:
            self._left: Iterator[pa.Table] = iter(())
            super().__init__(release_data=True)

        def reset(self) -> None:
            self._left = frame.batches(days.first, days.last, ROWS)

        def next(self, input_data: Any) -> bool:
            for batch in self._left:
                y, x = labels(schema, batch), matrix(schema, batch)
                known = y >= 0 if schema.classes else np.ones(len(y), bool)
                if known.any():
                    input_data(data=x[known], label=y[known], **names)
                    return True
            return False

    try:
        return xgb.QuantileDMatrix(Batches(), ref=like, enable_categorical=True, max_bin=plan.params.get("max_bin"))
    except (xgb.core.XGBoostError, TypeError) as exc:
        raise SpecInvalid([Problem("spec", "training.params", f"XGBoost refused them: {_first_line(exc)}")]) from exc


def _refuse_unused(said: list[warnings.WarningMessage]) -> None:
    """Refuse parameters that XGBoost did not know: it only warns of them, and a misspelt one would change nothing."""
    for warning in said:
        found = re.search(r"Parameters: \{ (.*?) \} are not used", str(warning.message), re.DOTALL)
        if found:
            words = f"XGBoost does not use {found[1]} here; look for a misspelling, or remove it"
            raise SpecInvalid([Problem("spec", "training.params", words)])
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _first_line(exc: Exception) -> str:
    return next((line for line in str(exc).splitlines() if line.strip()), type(exc).__name__)[:300]
