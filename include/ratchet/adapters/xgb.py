"""XGBoost: from a feature frame to a booster, and from rows to scores."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.adapters.matrix import ROWS, classes_of, described, features_of, known_as, labels, matrix
from ratchet.domain.models import ModelFiles, ModelSchema
from ratchet.domain.windows import Span
from ratchet.errors import DataRejected, Problem, SpecInvalid
from ratchet.ports import Fit, Tried

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from ratchet.domain.models import Task
    from ratchet.domain.windows import Windows
    from ratchet.ports import FeatureFrame, FeatureQuery, Floats, TrainingPlan

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
        import xgboost as xgb

        grown = Span(first=date.min, last=days.fit.last)
        fit, stop = (frame.days(span.first, span.last, ("target",)) for span in (grown, days.stop))
        for part, name, span in ((fit, "fit", days.fit), (stop, "early-stopping", days.stop)):
            if part.num_rows == 0:
                raise DataRejected(
                    "empty",
                    f"no labelled row in the {name} days {span}; widen the window or land the missing partitions",
                )
        classes = classes_of(plan.task, fit)
        features = features_of(frame, grown)
        schema = ModelSchema(
            task=plan.task,
            features=features,
            classes=classes,
            best_iteration=0,
            tables={name: dict(columns) for name, columns in frame.columns.items()},
            hidden=tuple(query.hidden),
            target=query.target,
        )
        if classes and not (labels(schema, stop) >= 0).any():  # a class first met there cannot be watched
            words = f"no row in the early-stopping days {days.stop} has a class that the days before have: {', '.join(classes[:5])}"
            raise DataRejected("empty", f"{words}. Look at the labels of those days, or widen the window")
        train = _quantiles(schema, frame, grown)
        watch = _quantiles(schema, frame, days.stop, train)
        params = {
            "eval_metric": _EVAL_METRIC[plan.task],
            **plan.params,
            "objective": _OBJECTIVE[plan.task],
            "seed": plan.seed,
            "nthread": plan.threads,
            "device": plan.device,
            **({"num_class": len(classes)} if plan.task == "multiclass" else {}),
        }
        curves: dict[str, dict[str, list[float]]] = {}
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                booster = xgb.train(
                    params,
                    train,
                    plan.rounds,
                    evals=[(watch, "stop")],
                    early_stopping_rounds=plan.early_stopping_rounds,
                    evals_result=curves,
                    verbose_eval=False,
                )
        except (xgb.core.XGBoostError, ValueError, TypeError) as exc:
            raise SpecInvalid(
                [Problem("spec", "training.params", f"XGBoost refused them: {_first_line(exc)}")]
            ) from exc
        _refuse_unused(said)
        best = int(booster.best_iteration)
        # Only the rounds that score are kept: whoever loads the booster by other means gets the same predictions.
        kept = booster[: best + 1]
        kept.set_attr(best_iteration=None, best_score=None)
        gain = kept.get_score(importance_type="total_gain")
        total = sum(gain.values()) or 1.0
        return Fit(
            files=ModelFiles(
                booster=bytes(kept.save_raw("ubj")),
                features=query.sql,
                schema_=schema.model_copy(update={"best_iteration": best}),
            ),
            curves={name: tuple(values) for name, values in curves["stop"].items()},
            importance={f.name: gain.get(known_as(f.name), 0.0) / total for f in features},
            rows=fit.num_rows,
        )

    def predict(self, files: ModelFiles, table: pa.Table) -> Floats:
        """See ``ports.Trainer.predict``."""
        return predict(files.booster, files.schema_, table)

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

    def metrics(self, task: Task, y: Floats, predictions: Floats) -> Mapping[str, float | None]:
        """See ``ports.Trainer.metrics``."""
        from ratchet.adapters.metrics import metrics  # noqa: PLC0415

        return metrics(task, y, predictions)


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


def _quantiles(schema: ModelSchema, frame: FeatureFrame, days: Span, like: Any = None) -> Any:
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

    return xgb.QuantileDMatrix(Batches(), ref=like, enable_categorical=True)


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
