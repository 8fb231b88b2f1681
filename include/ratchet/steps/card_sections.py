"""The sections of a model card, each from the facts on record; what is not on record is said not to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.domain.cards import UNKNOWN, CardSection, CardTable, between, shown
from ratchet.domain.ledger import TURNS
from ratchet.domain.segments import split
from ratchet.steps import card_metrics
from ratchet.steps.card_limits import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratchet.steps.card import Facts

_LISTED, _LEFT_OUT = 30, 25  # features, and partitions in quarantine
_PARTS = {
    "outside": "dated by their column to a day outside of the window",
    "quarantined_partitions": "in partitions in quarantine",
    "quarantined_rows": "in quarantine one by one",
    "unlabelled": "without a label",
    "dropped": "left out by the features query",
    "fitted": "fitted on",
    "watched": "early stopping watched them",
    "held_out": "hold-out: evaluated on",
}


def status(facts: Facts) -> str:
    """Say whether a version serves."""
    number, entries = facts.known.version.version, facts.known.ledger
    turns = [e for e in entries if e.action in TURNS]
    mine = [i for i, e in enumerate(turns) if e.champion and e.champion.version == number]
    if not mine:
        return "never served: no entry of the ledger names it"
    first, last = turns[mine[0]], turns[mine[-1]]
    if mine[-1] == len(turns) - 1:
        return f"champion: serves since {last.at[:10]} (ledger entry {last.seq}, {last.action})"
    after = turns[mine[-1] + 1]
    return f"served from {first.at[:10]} to {after.at[:10]} (ledger entries {first.seq} to {after.seq})"


def _details(facts: Facts) -> CardSection:
    version, night = facts.known.version, facts.night
    spec = facts.pipeline.spec if facts.pipeline else None
    owner = f"{spec.owner.name}{f', {spec.owner.email}' if spec.owner.email else ''}" if spec else UNKNOWN
    task = facts.schema.task if facts.schema else spec.target.task if spec else UNKNOWN
    rounds = f"{night.train.rounds} of at most {spec.training.rounds}" if night and night.train and spec else UNKNOWN
    made = night.made_by if night else None
    code = UNKNOWN
    if made and made.commit:
        code = f"{made.commit[:12]}{', with changes that were not committed' if made.dirty else ''}"
    return CardSection(
        key="details",
        title="Model details",
        facts=(
            ("Owner", owner),
            ("Kind", f"gradient-boosted trees (XGBoost), {task}"),
            ("Night", f"cutoff {version.cutoff}, registered {version.created or UNKNOWN}"),
            ("Has seen labels through", str(version.seen_through)),
            ("Boosting rounds", rounds),
            ("Parameters", _params(facts)),
            ("They come from", night.tune.why if night and night.tune else "the spec"),
            ("Code", code),
            ("Artifact (sha256)", version.artifact_digest),
        ),
    )


def _params(facts: Facts) -> str:
    if facts.pipeline is None:
        return UNKNOWN
    given = facts.pipeline.spec.training.params
    return ", ".join(f"{name} {value}" for name, value in sorted(given.items())) or "XGBoost's defaults"


def _use(facts: Facts) -> CardSection:
    spec, schema = facts.pipeline.spec if facts.pipeline else None, facts.schema
    words = [spec.description if spec else "What it is for is not on record any more."]
    target = schema.target if schema and schema.target else spec.target.sql if spec else ""
    facts_ = [
        ("Predicts", f"{schema.task if schema else spec.target.task if spec else UNKNOWN} of: {target or UNKNOWN}")
    ]
    if schema and schema.classes and schema.task == "multiclass":
        facts_.append(("Classes", ", ".join(schema.classes)))
    if schema and schema.quantiles:
        facts_.append(("Quantiles", ", ".join(f"{q:g}" for q in schema.quantiles)))
    hidden = schema.hidden if schema else spec.source.unknown_at_prediction if spec else ()
    facts_.append(("Not known when it is asked, so never used", ", ".join(hidden) or "nothing is declared so"))
    if schema:
        facts_.append(
            (
                "Reads",
                "; ".join(f"{table}: {', '.join(columns)}" for table, columns in schema.tables.items()) or UNKNOWN,
            )
        )
    words.append("Any other use was not evaluated.")
    return CardSection(key="use", title="Intended use", words=tuple(words), facts=tuple(facts_))


def _factors(facts: Facts) -> CardSection:
    slices = facts.pipeline.spec.evaluation.slices if facts.pipeline else ()
    segment = split(facts.name)[1]
    said = (
        f"Looked at by value of {', '.join(slices)}, and by no other group."
        if slices
        else "Looked at as a whole only: evaluation.slices names no column, so whether some group fares worse is not known."
    )
    by = facts.pipeline.spec.segments.by if facts.pipeline and facts.pipeline.spec.segments else ""
    words = (
        [f"One segment's model: it learns from, and is judged on, rows of one value of {by} alone."]
        if by and segment
        else []
    )
    return CardSection(key="factors", title="Factors", words=(*words, said))


def _training(facts: Facts) -> CardSection:
    night, spec = facts.night, facts.pipeline.spec if facts.pipeline else None
    if night is None:
        words = "No record of the night that made it is left, so its data is not known here; the snapshot may still be named in MLflow."
        return CardSection(key="training", title="Training data", words=(words,))
    rows: list[tuple[str, str]] = []
    if spec:
        days = spec.windows(night.request.cutoff)
        rows += [("Source", spec.source.uri)]
        rows += [(f"Side table {name}", table.uri) for name, table in spec.source.tables.items()]
        rows += [
            ("Fitted on", str(days.fit)),
            ("Early stopping watched", str(days.stop)),
            ("Hold-out", str(days.holdout)),
        ]
        rows += [("Labels known after", f"{spec.window.label_delay_days} days")] if spec.window.label_delay_days else []
    if night.snapshot:
        pinned = f"{night.snapshot.rows:,} rows, {night.snapshot.objects:,} objects, {night.snapshot.partitions} days with data"
        rows += [("Snapshot (sha256)", night.snapshot.digest), ("Pinned", pinned)]
    tables = []
    account = night.train.account if night.train else None
    if account:
        counted = tuple((_PARTS.get(part, part), f"{count:,}") for part, count in account.parts.items() if count)
        tables.append(CardTable(title="Where each landed row went", columns=("Rows", "How many"), rows=counted))
    left_out = tuple(_quarantine(facts))
    if left_out:
        tables.append(
            CardTable(title="Left out by validation", columns=("Partition", "Rows", "Why"), rows=left_out[:_LEFT_OUT])
        )
    features = tuple(_features(facts))
    if features:
        tables.append(
            CardTable(
                title="Features",
                columns=("Feature", "Kind", "Missing in the hold-out", "Rows with a text that training never met"),
                rows=features,
            )
        )
    audited = night.train.audited if night.train else ()
    said = (f"Audited for leaks: {'; '.join(audited)}.",) if audited else ()
    return CardSection(key="training", title="Training data", words=said, facts=tuple(rows), tables=tuple(tables))


def _quarantine(facts: Facts) -> Iterator[tuple[str, str, str]]:
    found = facts.night.validate_ if facts.night else None
    if found is None:
        return
    for whole in found.quarantined:
        yield whole.partition, f"{whole.rows:,}", "; ".join(whole.reasons[:3])
    for some in found.quarantined_rows:
        yield some.partition, f"{some.rows:,}", "; ".join(some.reasons[:3])


def _features(facts: Facts) -> Iterator[tuple[str, str, str, str]]:
    looked = facts.explanation
    for feature in facts.schema.features if facts.schema else ():
        kind = "number" if feature.kind == "number" else f"category of {len(feature.categories):,} values"
        missing = f"{looked.missing.get(feature.name, 0):.1%}" if looked else UNKNOWN
        unseen = str(looked.unseen.get(feature.name, 0)) if looked and feature.kind == "category" else "–"
        yield feature.name, kind, missing, unseen


def _evaluation(facts: Facts) -> CardSection:
    night = facts.night
    found = night.evaluate if night else None
    if night is None or found is None:
        return CardSection(key="evaluation", title="Evaluation data", words=("No evaluation is on record.",))
    days = f" of {facts.pipeline.spec.windows(night.request.cutoff).holdout}" if facts.pipeline else ""
    words = [
        f"{found.rows:,} rows{days}, later than every row that the fit or early stopping has met. Intervals are over days, 95 %."
    ]
    if found.case.champion_problem:
        words.append(f"The champion of that night could not be compared: {found.case.champion_problem}.")
    elif not found.case.champion:
        words.append("There was no champion to compare with.")
    else:
        words.append(
            f"The champion of that night had not seen {found.common_rows:,} of them either; it is compared on these."
        )
    if night.train and night.train.evaluated:
        words.append(
            f"What is told of metrics, slices and contributions is of the fit before these days were learnt from (sha256 {night.train.evaluated}). "
            f"The version itself was then fitted again on {night.train.refitted:,} rows, these among them, so none is left to judge it by."
        )
    return CardSection(key="evaluation", title="Evaluation data", words=tuple(words))


def _looks_at(facts: Facts) -> CardSection:
    found = facts.explanation
    if found is None or found.problem:
        why = found.problem if found else "The night that made it has left no explanation."
        return CardSection(key="explanation", title="What it looks at", words=(why,))
    rows = tuple(
        (
            f.name,
            f"{f.share:.1%}",
            shown(f.mean),
            between((f.low, f.high)),
            "–" if f.champion is None else f"{f.champion:.1%}",
        )
        for f in found.features[:_LISTED]
    )
    said = (
        f"How much each feature adds to a prediction, up or down, on average (SHAP values, in {found.scale}), over {found.rows:,} of "
        f"{found.of:,} rows of the hold-out. It says what the model looks at, not what causes what."
    )
    words = [said]
    if found.drift:
        words.append(
            found.drift.warning
            or f"{found.drift.distance:.1%} of the importance has moved since champion v{found.drift.version}."
        )
    more = len(found.features) - _LISTED + found.left_out
    table = CardTable(
        columns=("Feature", "Share", "Mean |contribution|", "95 %", "Champion of that night"),
        rows=rows,
        note=f"and {more} smaller" if more > 0 else "",
    )
    return CardSection(key="explanation", title="What it looks at", words=tuple(words), tables=(table,))


def _verdict(facts: Facts) -> CardSection:
    night = facts.night
    verdict = night.gate.verdict if night and night.gate else None
    if night is None or verdict is None:
        return CardSection(key="verdict", title="Gates and verdict", words=("No verdict is on record.",))
    rows = tuple(
        (c.outcome.value.replace("_", " "), c.name, shown(c.value), shown(c.limit), c.reason) for c in verdict.checks
    )
    asked = night.approve
    words = [f"{verdict.outcome.value}, judged on {night.request.cutoff}; the night: {night.outcome}."]
    if asked and asked.required:
        words.append(
            f"A person {'approved' if asked.approved else 'did not approve'}: {asked.who or UNKNOWN}{f', {asked.reason}' if asked.reason else ''}."
        )
    if verdict.bootstrap:
        words.append("It was the first champion: nothing was there to be compared with.")
    table = CardTable(columns=("Outcome", "Check", "Value", "Limit", "Why"), rows=rows)
    return CardSection(key="verdict", title="Gates and verdict", words=tuple(words), tables=(table,))


def _ethics(facts: Facts) -> CardSection:
    owner = facts.pipeline.spec.owner.name if facts.pipeline else "its owner"
    words = (
        "Whether the data holds what is sensitive, and whom a wrong prediction hurts, does not show in figures: nothing is on record of it. "
        f"{owner} can say. The only groups that were compared are those under Slices."
    )
    return CardSection(key="ethics", title="Ethical considerations", words=(words,))


def _again(facts: Facts) -> CardSection:
    version, night = facts.known.version, facts.night
    rows = [
        ("Run key", version.run_key),
        ("Recipe", version.recipe_spec or UNKNOWN),
        ("MLflow run", version.mlflow_run_id),
    ]
    if night:
        rows += [
            ("Spec digest", night.spec_digest),
            ("Code digest", night.code_digest),
            ("Machine", night.made_by.machine or UNKNOWN),
            ("Libraries", ", ".join(f"{name} {v}" for name, v in night.made_by.libraries.items()) or UNKNOWN),
        ]
    words = (
        "The same code, libraries and kind of machine give the same bytes; the command says which ingredient differs where they do not.",
    )
    code = f"ratchet reproduce {facts.name} {version.version}"
    return CardSection(key="again", title="How to build it again", words=words, facts=tuple(rows), code=code)


SECTIONS: tuple[Callable[[Facts], CardSection | None], ...] = (
    _details,
    _use,
    _factors,
    card_metrics.metrics,
    card_metrics.slices,
    _evaluation,
    _training,
    _looks_at,
    _verdict,
    _ethics,
    limits,
    _again,
)
