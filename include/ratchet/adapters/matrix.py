"""From a feature frame to numbers: which columns a booster reads, how categories and labels are coded.

Categories are coded here and nowhere else: by their place in the sorted list of values met in training, which travels in
``schema.json``. A value that training never met counts as missing, in training, evaluation and serving alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain.models import Feature, ModelSchema
from ratchet.errors import DataRejected, Problem, SpecInvalid
from ratchet.tables import LABELS

if TYPE_CHECKING:
    import pyarrow as pa

    from ratchet.domain.models import Task
    from ratchet.domain.windows import Span
    from ratchet.tables import FeatureFrame, Floats

ROWS = 250_000  # that are turned into a matrix at a time


def matrix(schema: ModelSchema, table: pa.Table) -> Any:
    """Return the booster's matrix, float32 of shape (rows, features), NaN where missing.

    Raises:
        DataRejected: ``schema``, when a feature is missing or of another kind.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    columns = np.empty((table.num_rows, len(schema.features)), dtype=np.float32)
    for i, feature in enumerate(schema.features):
        if feature.name not in table.column_names:
            raise DataRejected(
                "schema", f"feature {feature.name} is missing; the query returned {', '.join(table.column_names)}"
            )
        values = table[feature.name]
        found = kind_of(feature.name, values.type)
        # A column without any value has no kind of its own (a file's reads as text): what it holds elsewhere is as good as missing.
        unknown = (feature.kind == "category" and not feature.categories) or values.null_count == len(values)
        if found != feature.kind and not unknown:
            raise DataRejected(
                "schema",
                f"feature {feature.name} is a {found} ({values.type}), the model was trained on a {feature.kind}",
            )
        if feature.kind == "category":
            values = pc.index_in(values.cast(pa.string()), value_set=pa.array(feature.categories, pa.string()))
        columns[:, i] = values.cast(pa.float32(), safe=False).to_numpy()
    return columns


def labels(schema: ModelSchema, table: pa.Table) -> Floats:
    """Return ``target`` as 0/1, class number (−1: a class that training never met) or value."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    target, classes = table["target"], pa.array(schema.classes, pa.string())
    values: Floats = np.empty(len(target))
    for start in range(0, len(target), ROWS):  # of many rows nothing but what is returned is held
        part = target.slice(start, ROWS)
        if schema.task == "multiclass":
            part = pc.fill_null(pc.index_in(part.cast(pa.string()), value_set=classes), -1)
        values[start : start + ROWS] = part.cast(pa.float64(), safe=False).to_numpy()
    return values


def classes_of(task: Task, fit: pa.Table) -> tuple[str, ...]:
    """Return the classes met in training, sorted; check that the target suits the task."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    kind = fit["target"].type
    met = [str(v) for v in pc.unique(fit["target"]).cast(pa.string()).to_pylist()]
    if task not in {"binary", "multiclass"}:
        _refuse_no_number(task, fit["target"])
        return ()
    if len(met) < 2:  # noqa: PLR2004  classes
        raise DataRejected(
            "one_class",
            f"all {fit.num_rows} rows of the fit have target {met[0]}; there is nothing to tell apart. Look at how they were labelled, and at "
            "target.sql; then land them again, or lengthen the window to days that have the other",
        )
    if task == "binary":
        if not pa.types.is_boolean(kind) and {float(v) for v in met if _is_number(v)} != {0.0, 1.0}:
            raise SpecInvalid(
                [
                    Problem(
                        "spec",
                        "target.sql",
                        f"a binary target must be BOOLEAN or 0/1, found {kind}: {', '.join(sorted(met)[:5])}",
                    )
                ]
            )
        return ("0", "1")
    return tuple(sorted(met))


def _refuse_no_number(task: Task, target: pa.ChunkedArray) -> None:
    """Refuse labels that no number tells, or of a ranking, no relevance."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    kind, ranking = target.type, task == "ranking"
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not number and not (ranking and pa.types.is_boolean(kind)):
        words = f"a {task} task needs a number{', or TRUE for what is relevant' if ranking else ''}, found {kind}"
        raise SpecInvalid([Problem("spec", "target.sql", words)])
    if not ranking:
        return
    low, high = pc.min_max(target.cast(pa.float64())).values()
    if low.as_py() < 0:
        words = (
            f"a relevance is 0 or more, found {low.as_py():g}; write greatest(…, 0), or NULL where there is no label"
        )
        raise SpecInvalid([Problem("spec", "target.sql", words)])
    if low == high:
        raise DataRejected(
            "one_class",
            f"all {len(target)} rows of the fit are equally relevant ({low.as_py():g}); there is no order to learn. Look at how they were "
            "labelled, and at target.sql",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def features_of(frame: FeatureFrame, days: Span) -> tuple[Feature, ...]:
    """Name the features, with the texts that are met on some days."""
    kinds = {f.name: kind_of(f.name, f.type) for f in frame.table.schema if f.name not in LABELS}
    if not kinds:
        raise SpecInvalid([Problem("features", "", "the query returns row_id only; select at least one feature")])
    met: dict[str, set[str]] = {name: set() for name, kind in kinds.items() if kind == "category"}
    for batch in frame.batches(days.first, days.last, ROWS) if met else ():
        for name, texts in met.items():
            texts.update(text for text in batch[name].unique().to_pylist() if text is not None)
    return tuple(
        Feature(name=name, kind=kind, categories=tuple(sorted(met.get(name, ())))) for name, kind in kinds.items()
    )


def kind_of(name: str, kind: pa.DataType) -> Any:
    """Return the kind of a feature: ``number`` or ``category``.

    Raises:
        SpecInvalid: it is neither; the words say what of it would be.
    """
    import pyarrow as pa  # noqa: PLC0415

    t = pa.types
    if t.is_dictionary(kind):
        kind = kind.value_type
    if t.is_string(kind) or t.is_large_string(kind):
        return "category"
    if t.is_boolean(kind) or t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_null(kind):
        return "number"
    raise SpecInvalid(
        [
            Problem(
                "features",
                name,
                f"a {kind} is neither a number nor a text; write in the query what of it is one, for example {_number_of(name, kind)}",
            )
        ]
    )


def _number_of(name: str, kind: pa.DataType) -> str:
    """Return SQL that makes a number or a text of a column of another type."""
    import pyarrow as pa  # noqa: PLC0415

    column = '"' + name.replace('"', '""') + '"'
    if pa.types.is_struct(kind) and kind.num_fields:
        return f'{column}."{kind.field(0).name}"'
    if pa.types.is_map(kind):
        return f"cardinality({column})"
    if pa.types.is_nested(kind):
        return f"len({column})"
    return f"epoch({column})" if pa.types.is_temporal(kind) else f"hex({column})"


def described(schema: ModelSchema) -> dict[str, Any]:
    """Return what XGBoost is told of a matrix: names and kinds of its columns."""
    return {
        "feature_names": [known_as(f.name) for f in schema.features],
        "feature_types": ["c" if f.kind == "category" else "q" for f in schema.features],
        "enable_categorical": True,
    }


def known_as(name: str) -> str:
    """Return what XGBoost calls a feature: it refuses brackets and `<`, which a column's name may hold."""
    return "".join(f"_{ord(char):x}_" if char in "[]<" else char for char in name)
