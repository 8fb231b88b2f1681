"""Drift: keep with each model what it was trained on, and hold each night's newest days against it.

A day is counted once, by the first night that sees it as it is, in the bins of the champion of that night: what a night costs
follows its new rows. Counts are kept by what the day's objects hold, so a corrected day is counted anew.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from ratchet.domain import layout
from ratchet.domain.alerts import Alert
from ratchet.domain.drift_days import judge
from ratchet.domain.drifted import APART, DriftResult
from ratchet.domain.measuring import Measuring
from ratchet.domain.profiles import CONFIDENCE, LABEL, PREDICTION, RARE, Bins, Counts, Profile, feature
from ratchet.domain.records import Record, digest
from ratchet.domain.windows import DAY
from ratchet.errors import ObjectNotFound
from ratchet.steps import frames
from ratchet.steps.binning import bins_of, by_day, counts
from ratchet.steps.snapshot import load
from ratchet.tables import rows_of_days

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratchet.domain.models import ModelFiles, ModelVersion
    from ratchet.domain.windows import Windows
    from ratchet.steps.context import Context
    from ratchet.tables import FeatureFrame, Floats

    Predict = Callable[[pa.Table], Floats]

ARTIFACT = "drift/reference.json"  # of the model's MLflow run
_KEPT_DAYS = 365  # of the predictions of earlier champions


class _Day(Record):
    """A day's counts, and what they were made of."""

    content: str  # digest
    counts: Counts


class _Fresh(Record):
    """The days that one model could not look at, counted in its bins."""

    days: dict[date, _Day] = {}


def look(
    ctx: Context, version: ModelVersion, files: ModelFiles, frame: FeatureFrame, table: pa.Table, predictions: Floats
) -> DriftResult:
    """Hold the newest day against what the champion was trained on, and against the days before.

    Args:
        ctx: the night.
        version: the champion.
        files: its files.
        frame: its features of the whole window.
        table: of these, the days that it could not look at.
        predictions: of these rows, by it.
    """
    rule = ctx.pipeline.spec.drift
    if rule.action == "off":
        return DriftResult(state="off", words="drift.action is off", champion=version.version)
    profile = _reference(ctx, version, files, frame)
    if profile is None:
        words = (
            f"no profile is kept of what version {version.version} was trained on, and no day of its training lies in "
            "tonight's window; the next champion will have one"
        )
        return DriftResult(state="unknown", words=words, champion=version.version)
    fresh = _counted(ctx, version, files, profile, table, predictions)
    found = judge(profile, fresh, rule, version.version)
    ctx.say(f"drift: {found.words}")
    return found


def keep_reference(ctx: Context, frame: FeatureFrame, files: ModelFiles) -> None:
    """Keep the profile of tonight's challenger with it, and log how far tonight's data has moved."""
    night, services = ctx.night, ctx.services
    assert night.train
    assert night.score
    before, past = _predicted_before(ctx, night.score.champion)
    made = profile_of(
        files, ctx.windows, frame.table, lambda part: services.trainer.predict(files, part), before, frame.forget
    )
    document = _with_past(made, before, past).model_dump_json().encode()
    if not night.request.dry_run:
        services.store.put(_key(ctx, night.request.cutoff, night.train.artifact_digest), document)
    found = night.score.drift
    services.registry.log(
        night.train.mlflow_run_id, metrics=metrics(found) if found else {}, files={ARTIFACT: document}
    )


def alerts(ctx: Context, found: DriftResult | None) -> tuple[Alert, ...]:
    """Return what a person should hear of: each episode when it begins, and again while it lasts, once in so many days."""
    if found is None or found.state != "drift":
        return ()
    cutoff = ctx.night.request.cutoff
    told = {layout.alert(ctx.pipeline.name, cutoff - DAY * back, "drift") for back in range(1, APART + 1)}
    prefix = layout.alerts(ctx.pipeline.name)
    if any(prefix + stored.uri.rpartition("/")[2] in told for stored in ctx.services.store.list(prefix)):
        return ()
    return (Alert(kind="drift", words=found.words, version=found.champion),)


def metrics(found: DriftResult) -> dict[str, float]:
    """Return what MLflow is told of a night's drift."""
    told = {"drift.drifted": float(found.state == "drift"), "drift.history": float(found.history)}
    told |= {
        f"drift.{name}": value for name in ("score", "limit", "rank") if (value := getattr(found, name)) is not None
    }
    for subject in reversed(found.subjects):  # the one that shows a subject best comes first
        name = re.sub(r"[^\w\-. ]", "_", subject.subject)[:100]
        told[f"drift.{subject.against}.psi.{name}"] = subject.psi
    return told


def profile_of(
    files: ModelFiles,
    days: Windows,
    table: pa.Table,
    predict: Predict,
    before: Mapping[str, Bins] | None = None,
    forget: Callable[[], None] = lambda: None,
) -> Profile:
    """Count a window by day and bin.

    Args:
        files: of the model; its features are what is counted.
        days: of the model's night.
        table: the features of the window, or of as much of it as there is.
        predict: gives the model's predictions of rows.
        before: bins of the predictions of the champion before it, which are used again while they tell these apart.
        forget: gives back the memory that mapped rows take, once they have been looked at.
    """
    bins = {}
    for subject, column in _columns(files).items():  # one after the other: rows that lie in any order are copied
        seen = rows_of_days(table, date.min, days.stop.last, (column,))
        bins[subject] = bins_of(seen[column], RARE, fenced=True)
        forget()
    counted = by_day(table, columns_of(files, bins), forget)
    tried = rows_of_days(table, days.stop.first, date.max)
    scores = _scores(files, tried, predict(tried))
    forget()
    for subject in scores.column_names[1:]:
        own, theirs = bins_of(scores[subject], RARE, fenced=True), (before or {}).get(subject)
        bins[subject] = theirs if theirs and _tells_apart(theirs, own, scores[subject]) else own
    for day, counted_scores in by_day(scores, {s: (s, bins[s]) for s in scores.column_names[1:]}).items():
        counted[day] |= counted_scores
    return Profile(
        first=days.fit.first,
        seen_through=days.stop.last,
        tried_from=days.stop.first,
        last=days.whole.last,
        bins=bins,
        days=counted,
    )


def _tells_apart(theirs: Bins, own: Bins, column: pa.ChunkedArray) -> bool:
    """Say whether older bins still spread these values over at least half as many bins as new ones would."""
    if theirs.kind != own.kind:
        return False
    old, new = (_spread(counts(column, bins)) for bins in (theirs, own))
    return old >= new / 2


def _spread(found: Floats) -> float:
    """Return over how many bins rows are spread: e to the entropy."""
    shares = found[found > 0] / max(found.sum(), 1)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _scores(files: ModelFiles, table: pa.Table, predictions: Floats) -> pa.Table:
    """Return predictions as columns that can be counted: the number, the median, or the likeliest class and how likely it is."""
    if predictions.ndim == 1:
        return pa.table({"dt": table["dt"], PREDICTION: pa.array(predictions, pa.float64())})
    if files.schema_.quantiles:
        middle = predictions[:, Measuring(task=files.schema_.task, quantiles=files.schema_.quantiles).middle]
        return pa.table({"dt": table["dt"], PREDICTION: pa.array(middle, pa.float64())})
    names = pa.array(files.schema_.classes, pa.string())
    likeliest = names.take(pa.array(predictions.argmax(axis=1) if len(predictions) else [], pa.int64()))
    top = predictions.max(axis=1) if len(predictions) else np.zeros(0)
    return pa.table({"dt": table["dt"], PREDICTION: likeliest, CONFIDENCE: pa.array(top, pa.float64())})


def _reference(ctx: Context, version: ModelVersion, files: ModelFiles, frame: FeatureFrame) -> Profile | None:
    """Return a model's profile; one that is not kept is made of as much of its days as tonight's window has."""
    kept = _kept(ctx, version)
    if kept:
        return kept
    days = ctx.pipeline.spec.windows(version.cutoff)
    if days.stop.last < ctx.windows.whole.first:
        return None
    table = frames.of_days(frame, days.whole.first, days.whole.last)
    if not table.num_rows:
        return None
    made = profile_of(files, days, table, lambda part: ctx.services.trainer.predict(files, part), forget=frame.forget)
    if not ctx.night.request.dry_run:
        ctx.services.store.put(_key(ctx, version.cutoff, version.artifact_digest), made.model_dump_json().encode())
    return made


def _kept(ctx: Context, version: ModelVersion) -> Profile | None:
    try:
        return Profile.model_validate_json(ctx.services.store.get(_key(ctx, version.cutoff, version.artifact_digest)))
    except (ObjectNotFound, ValidationError):  # or of another version of Ratchet
        return None


def _counted(
    ctx: Context, version: ModelVersion, files: ModelFiles, profile: Profile, table: pa.Table, predictions: Floats
) -> dict[date, Counts]:
    """Return the counts of a champion's fresh days; those that are counted already come from the store."""
    import pyarrow.compute as pc  # noqa: PLC0415

    known = _fresh(ctx, version)
    there = [day for day in pc.unique(table["dt"]).to_pylist() if day > profile.last]
    content = _contents(ctx, there)
    new = [day for day in there if day not in known or known[day].content != content[day]]
    here = pc.is_in(table["dt"], value_set=pa.array(new, pa.date32()))
    rows, which = table.filter(here), np.asarray(here.to_numpy(), dtype=bool)
    made = by_day(rows, columns_of(files, profile.bins))
    scores = _scores(files, rows, predictions[which])
    subjects = {s: (s, profile.bins[s]) for s in scores.column_names[1:] if s in profile.bins}
    for day, found in by_day(scores, subjects).items():
        made[day] |= found
    days = {**known, **{day: _Day(content=content[day], counts=found) for day, found in made.items()}}
    if made and not ctx.night.request.dry_run:
        key = layout.fresh_counts(ctx.pipeline.name, version.cutoff, version.artifact_digest)
        ctx.services.store.put(key, _Fresh(days=days).model_dump_json().encode())
    newest = ctx.windows.newest  # later nights know of more
    return {day: found.counts for day, found in sorted(days.items()) if profile.last < day <= newest}


def _fresh(ctx: Context, version: ModelVersion) -> dict[date, _Day]:
    key = layout.fresh_counts(ctx.pipeline.name, version.cutoff, version.artifact_digest)
    try:
        return _Fresh.model_validate_json(ctx.services.store.get(key)).days
    except (ObjectNotFound, ValidationError):
        return {}


def _contents(ctx: Context, days: list[date]) -> dict[date, str]:
    """Return for each day what the rows of it are made of."""
    assert ctx.night.validate_
    found = load(ctx)
    whole = {sha for partition in ctx.night.validate_.quarantined for sha in partition.objects}
    single = {sha: [q.content, q.rows] for q in ctx.night.validate_.quarantined_rows for sha in q.objects}
    parts: dict[date, list[Any]] = {day: [] for day in days}
    for name, pins in sorted(found.tables.items()):
        for pin in pins:
            part = [name, pin.key, pin.sha256, pin.sha256 in whole, single.get(pin.sha256)]
            of = [pin.day] if pin.day else pin.days if pin.days is not None else days
            for day in of:
                if day in parts:
                    parts[day].append(part)
    return {day: digest(sorted(made, key=str)) for day, made in parts.items()}


def _predicted_before(ctx: Context, champion: ModelVersion | None) -> tuple[dict[str, Bins], dict[date, Counts]]:
    """Return in which bins the champion's predictions are counted, and the counts: its own, and of the champions before it."""
    kept = _kept(ctx, champion) if champion else None
    if champion is None or kept is None:
        return {}, {}
    bins = {s: kept.bins[s] for s in (PREDICTION, CONFIDENCE) if s in kept.bins}
    fresh = {day: found.counts for day, found in _fresh(ctx, champion).items()}
    newest = ctx.windows.newest
    past = {day: found for day, found in {**kept.days, **fresh}.items() if day <= newest}
    return bins, {day: {s: found[s] for s in bins if s in found} for day, found in past.items()}


def _with_past(made: Profile, bins: Mapping[str, Bins], past: Mapping[date, Counts]) -> Profile:
    """Let a profile know what earlier champions predicted, so that its own predictions have days to be held against."""
    same = [subject for subject in bins if made.bins.get(subject) == bins[subject]]
    days = dict(made.days)
    for day, found in past.items():
        if made.tried_from - DAY * _KEPT_DAYS <= day < made.tried_from and same:
            days[day] = {**days.get(day, {}), **{s: found[s] for s in same if s in found}}
    return made.model_copy(update={"days": {day: days[day] for day in sorted(days) if days[day]}})


def columns_of(files: ModelFiles, bins: Mapping[str, Bins]) -> dict[str, tuple[str, Bins]]:
    """Return for the label and each feature of a model its column in a frame, and its bins."""
    return {subject: (column, bins[subject]) for subject, column in _columns(files).items() if subject in bins}


def _columns(files: ModelFiles) -> dict[str, str]:
    return {LABEL: "target", **{feature(f.name): f.name for f in files.schema_.features}}


def _key(ctx: Context, cutoff: date, artifact: str) -> str:
    return layout.reference_profile(ctx.pipeline.name, cutoff, artifact)
