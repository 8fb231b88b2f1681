"""Why one row is predicted as it is: a row that a night has read, or one that somebody hands in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.domain import layout
from ratchet.domain.explanations import SCALES, Explanation, Part, RowExplanation
from ratchet.errors import ActionRefused, NotExplained, ObjectNotFound
from ratchet.steps import frames
from ratchet.steps.context import Context
from ratchet.steps.versions import made_by, night_at, recipe

if TYPE_CHECKING:
    from datetime import date

    import pyarrow as pa

    from ratchet.domain.models import Feature, ModelFiles
    from ratchet.steps.context import Services
    from ratchet.steps.versions import Known
    from ratchet.tables import Floats

ASKED = "explanation"
_OFF = 1e-3  # of a prediction: rounding of thousands of 32-bit numbers
_MEDIAN = 0.5


def model(services: Services, known: Known) -> ModelFiles:
    """Bring a version's model here, by its digest."""
    return services.registry.download(known.version.mlflow_run_id, known.version.artifact_digest)[1]


def row_of_night(
    services: Services, name: str, known: Known, files: ModelFiles, row_id: int, cutoff: date | None = None
) -> tuple[pa.Table, str]:
    """Return the features of one row of a night's data, and say which row it is.

    Args:
        services: the adapters.
        name: of the pipeline, or of one of its segments.
        known: whose features.
        files: its model.
        row_id: as the kept predictions of the night give it.
        cutoff: of the night; by default the one that made the version.

    Raises:
        ActionRefused: the night is not on record any more, or has no such row; the words name its window.
        DataRejected: its data cannot be had any more.
    """
    import pyarrow.compute as pc  # noqa: PLC0415

    night = night_at(services, name, cutoff) if cutoff else made_by(services, name, known.version)
    wanted = f"of {cutoff}" if cutoff else f"that made version {known.version.version}"
    if night is None or night.snapshot is None or night.validate_ is None:
        why = f"no record of the night {wanted} is left; give the row itself with --row, or another night with --cutoff"
        raise ActionRefused(ASKED, name, why)
    declared = recipe(services, name, night.recipe_spec)
    if declared is None:
        raise ActionRefused(
            ASKED, name, f"the recipe of the night {wanted} is not on record any more; give the row itself with --row"
        )
    ctx = Context(pipeline=declared, night=night, services=services)
    frame = frames.feature_frame(ctx, files.features)
    place = pc.index(frame.table["row_id"], row_id).as_py()
    if place < 0:
        kept = f"; the predictions that it kept name theirs: {night.evaluate.predictions}" if night.evaluate else ""
        why = (
            f"the night {wanted} has no labelled row {row_id} among the {frame.table.num_rows} of its window {ctx.windows.whole}. "
            f"A row has its number from where it stands in that night's snapshot{kept}"
        )
        raise ActionRefused(ASKED, name, why)
    row = frame.table.slice(place, 1).combine_chunks()
    return row, f"row {row_id} of {row['dt'][0].as_py()}, as the night of {night.request.cutoff} read it"


def explain_row(  # noqa: PLR0913, PLR0917  a model, a row, and what is asked of them
    services: Services, name: str, known: Known, files: ModelFiles, row: pa.Table, words: str, output: str | None = None
) -> RowExplanation:
    """Explain the prediction of one row.

    Args:
        services: the adapters.
        name: of the pipeline, or of one of its segments.
        known: the version.
        files: its model.
        row: one row of features; ``target``, where it is there, is told as well.
        words: say which row it is.
        output: the class or quantile; by default the likeliest class, or the quantile nearest to the median.

    Raises:
        ActionRefused: the model has no such output.
        NotExplained: its booster cannot be explained, or what is found does not add up to the prediction.
    """
    schema = files.schema_
    predicted = np.atleast_1d(services.trainer.predict(files, row)[0])
    found = services.trainer.contributions(files, row)[0]
    outputs = _outputs(files)
    place = _chosen(name, files, predicted, outputs, output)
    margins = found.sum(axis=1)
    # Quantiles are put in order after they are predicted: what stands in this place may be the score of another.
    source = int(np.argsort(margins, kind="stable")[place]) if schema.task == "quantile" else place
    made = _linked(schema.task, margins, source)
    prediction = float(predicted[place])
    off = abs(made - prediction)
    if not off <= _OFF * (1 + abs(prediction)):
        raise NotExplained(f"base and contributions give {made:.6g}, the model predicts {prediction:.6g}")
    parts = [
        _part(feature, row, float(added)) for feature, added in zip(schema.features, found[source, :-1], strict=True)
    ]
    label = row["target"][0].as_py() if "target" in row.column_names else None
    return RowExplanation(
        pipeline=name,
        version=known.version.version,
        row=words,
        task=schema.task,
        output=outputs[place] if outputs else "",
        prediction=prediction,
        predictions={name: float(value) for name, value in zip(outputs, predicted, strict=True)} if outputs else {},
        label=None if label is None else _text(label),
        scale=SCALES[schema.task],
        base=float(found[source, -1]),
        margin=float(margins[source]),
        base_prediction=_linked(schema.task, found[:, -1], source),
        parts=tuple(sorted(parts, key=lambda part: (-abs(part.contribution), part.name))),
        off=off,
    )


def _outputs(files: ModelFiles) -> tuple[str, ...]:
    schema = files.schema_
    if schema.task == "multiclass":
        return schema.classes
    return tuple(f"{q:g}" for q in schema.quantiles)


def _chosen(name: str, files: ModelFiles, predicted: Floats, outputs: tuple[str, ...], wanted: str | None) -> int:
    if wanted is not None:
        if wanted not in outputs:
            there = (
                f"there are {', '.join(outputs)}" if outputs else f"a {files.schema_.task} model has one number a row"
            )
            raise ActionRefused(ASKED, name, f"the model has no output {wanted!r}; {there}")
        return outputs.index(wanted)
    if files.schema_.task == "multiclass":
        return int(predicted.argmax())
    quantiles = files.schema_.quantiles
    return min(range(len(quantiles)), key=lambda i: abs(quantiles[i] - _MEDIAN)) if quantiles else 0


def _linked(task: str, scores: Any, place: int) -> float:
    """Return the prediction that raw scores stand for."""
    if task == "binary":
        return 1 / (1 + math.exp(-max(min(float(scores[place]), 700.0), -700.0)))
    if task == "multiclass":
        odds = np.exp(scores - scores.max())
        return float(odds[place] / odds.sum())
    return float(scores[place])


def _part(feature: Feature, row: pa.Table, added: float) -> Part:
    value = row[feature.name][0].as_py()
    note = ""
    if feature.kind == "category" and value is not None and str(value) not in feature.categories:
        note = "training never met it: it counts as missing"
    return Part(name=feature.name, value="missing" if value is None else _text(value), contribution=added, note=note)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def recorded_explanation(services: Services, name: str, known: Known) -> Explanation:
    """Return what the night that made a version has found that it looks at.

    Raises:
        ActionRefused: it left none.
    """
    try:
        return Explanation.model_validate_json(
            services.store.get(layout.explanation(name, known.version.run_key, dry_run=False))
        )
    except ObjectNotFound as exc:
        why = f"the night that made version {known.version.version} has left none; ask about one row, or about a newer version"
        raise ActionRefused(ASKED, name, why) from exc
