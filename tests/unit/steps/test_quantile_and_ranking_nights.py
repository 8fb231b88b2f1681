"""Quantile regression and learning to rank, night by night: trained, gated, replaced, shown."""

from __future__ import annotations

import io
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from small_world import NIGHT, SPEC, World, partition

from ratchet.adapters.pyfunc import RawRowsModel
from ratchet.domain.cards import shown
from ratchet.domain.gates import LOSSES, METRICS
from ratchet.domain.losses import daily_losses
from ratchet.domain.policies import Range
from ratchet.errors import DataRejected, SpecInvalid
from ratchet.home import parse_spec
from ratchet.steps import segments
from ratchet.steps.card import card
from ratchet.steps.context import Context
from ratchet.steps.crew import Crew
from ratchet.steps.frames import feature_frame
from ratchet.steps.pairs import over_common_rows
from ratchet.steps.replay import replay
from ratchet.steps.whatif import whatif
from ratchet.tables import lists_in
from ratchet.wiring import sandboxed

DAY = timedelta(days=1)
TARGETS = {
    "binary": {"task": "binary", "sql": "y"},
    "multiclass": {"task": "multiclass", "sql": "CASE WHEN y THEN place ELSE 'none' END"},
    "regression": {"task": "regression", "sql": "abs(x) + y::INT"},
    "quantile": {"task": "quantile", "sql": "3 * abs(x) + hash(id) % 100 / 80", "quantiles": [0.1, 0.5, 0.8]},
    "ranking": {
        "task": "ranking",
        "sql": "(2 * abs(x) + hash(id) % 100 / 150 > 1.5)::INT",
        "group": "dt || '/' || id % 8",
    },
}
NEW = ("quantile", "ranking")
SMALL = {"min_rows": 20}
EVERY = {
    "bound": {"kind": "bound", "at_least": -99.0, "slice": "place=north", **SMALL},
    "champion": {"kind": "champion", "margin": 9.0, "min_days": 2},
    "evidence": {"kind": "evidence", "backfill_days": 2, "min_days": 1},
    "slices": {"kind": "slices", "column": "place", "margin": 9.0, "min_days": 2, **SMALL},
    "slice_gap": {"kind": "slice_gap", "column": "place", "at_most": 9.0, "margin": 9.0, **SMALL},
    "baseline": {"kind": "baseline", "baselines": ["average", "recent", "linear"], "recent_days": 2, "min_days": 2},
    "calibration": {"kind": "calibration", "at_least": 0.01, "at_most": 99.0, "bias": 9.0, "min_events": 2, **SMALL},
    "base_rate": {"kind": "base_rate", "at_least": 0.01, "at_most": 99.0, "bias": 9.0, **SMALL},
    "stability": {"kind": "stability", "at_most": 1.0, **SMALL},
    "drift": {"kind": "drift", "at_most": 99.0, "predictions_at_most": 99.0, **SMALL},
    "cost": {"kind": "cost", "artifact_mib": 99.0},
    "health": {"kind": "health", "unlabelled_at_most": 1.0, "volume": [0.0, 99.0]},
    "age": {"kind": "age", "min_days": 1},
}
MEANINGLESS = {("ranking", "calibration"), ("ranking", "base_rate")}


def gate(task, kind):
    """Return a gate of a kind, as a spec of a task would have it."""
    made = dict(EVERY[kind])
    if kind in {"champion", "evidence", "slices", "baseline"}:
        made["loss"] = LOSSES[task][0]
    if kind in {"bound", "slice_gap"}:
        made["metric"] = METRICS[task][0]
    return made


def spec_of(task, *gates, **more):
    """Return the small world's spec with another target."""
    small = yaml.safe_load(SPEC)
    window = {**small["window"], "min_rows": 20}
    return yaml.safe_dump({**small, "window": window, "target": TARGETS[task], "gates": list(gates), **more})


def asked(task):
    """Return every gate that says something of a task."""
    return [gate(task, kind) for kind in EVERY if (task, kind) not in MEANINGLESS]


@pytest.fixture(scope="module", params=NEW)
def two_nights(request, tmp_path_factory):
    """A champion's night and the one after it, under every gate that there is for the task."""
    world = World(tmp_path_factory.mktemp(request.param), spec_of(request.param, *asked(request.param)))
    world.land_all(NIGHT + DAY)
    return world, world.night(NIGHT), world.night(NIGHT + DAY)


def test_every_gate_decides(two_nights):
    """Under each kind of gate both nights come to a check: the first makes a champion, the second is held against it."""
    world, first, second = two_nights
    kinds = [made["kind"] for made in asked(world.pipeline().spec.target.task)]
    for night in (first, second):
        assert [check.kind for check in night.gate.verdict.checks] == [*kinds, "smoke test", "baselines"]
    assert first.promote.promoted
    undecided = {c.kind: c.reason for c in second.gate.verdict.checks if c.outcome == "UNDECIDED"}
    assert set(undecided) <= {"evidence"}, undecided
    (proof,) = [check.reason for check in second.gate.verdict.checks if check.kind == "evidence"]
    assert "after 1 day" in proof
    assert "without evidence" not in proof


@pytest.mark.parametrize("task", TARGETS)
@pytest.mark.parametrize("kind", EVERY)
def test_gate_is_accepted_or_refused_before_the_night(task, kind):
    """Of each kind of gate and each task it is said at check time whether they go together."""
    bound = gate(task, "bound")
    text = spec_of(task, bound, gate(task, kind))
    if (task, kind) in MEANINGLESS:
        with pytest.raises(SpecInvalid, match=rf"{kind} says nothing of a ranking"):
            parse_spec(text, "small.yaml")
    else:
        assert parse_spec(text, "small.yaml").gates[1].kind == kind


@pytest.mark.parametrize("task", NEW)
def test_loss_or_metric_of_another_task_is_refused(task):
    """A gate by another task's loss, or metric, names those that there are."""
    for wrong in ({**gate(task, "champion"), "loss": "brier"}, {**gate(task, "bound"), "metric": "rmse"}):
        with pytest.raises(
            SpecInvalid, match=f"of a {task} task; there are: {(*LOSSES[task], *METRICS[task])[0][:1]}|there are"
        ):
            parse_spec(spec_of(task, gate(task, "bound"), wrong), "small.yaml")


@pytest.mark.parametrize("task", NEW)
@pytest.mark.parametrize("bound", ["calibration", "base_rate"])
def test_rollback_by_level_is_refused(task, bound):
    """A champion of many quantiles, or of an order, has no mean prediction by which to roll it back."""
    with pytest.raises(SpecInvalid, match=f"a {task} task has no single prediction"):
        parse_spec(spec_of(task, gate(task, "bound"), rollback={bound: [0.5, 2.0]}), "small.yaml")


def test_kept_predictions_tell_the_losses_again(two_nights):
    """What evaluate keeps suffices to compute the losses by which champion and challenger were compared."""
    world, _, night = two_nights
    how = world.pipeline().spec.measuring
    table = pq.read_table(io.BytesIO(world.store.get(night.evaluate.predictions)))
    table = table.filter(table["champion"].is_valid())
    sides = (np.array(table[side].to_pylist(), dtype=float) for side in ("champion", "challenger"))
    lists = table["list"].to_numpy() if how.task == "ranking" else None
    days, y, loss = table["dt"].to_numpy().astype("datetime64[D]"), table["label"].to_numpy(), LOSSES[how.task][0]
    theirs, ours = (daily_losses(loss, days, y, p, how, lists) for p in sides)
    told = {d.day: (d.rows, d.champion, d.challenger) for d in night.evaluate.case.paired[loss]}
    assert told == {
        day: (rows, pytest.approx(value), pytest.approx(ours[day][1])) for day, (rows, value) in theirs.items()
    }


def test_other_gates_are_tried_on_kept_predictions(two_nights, tmp_path):
    """Gates that the nights did not have are judged by what they kept, as they would have been that night."""
    whole, _, second = two_nights
    task = whole.pipeline().spec.target.task
    world = World(tmp_path, spec_of(task, {"kind": "health"}, {**gate(task, "bound"), "slice": None}))
    world.land_all(NIGHT + DAY)
    world.night(NIGHT)
    world.night(NIGHT + DAY)
    kinds = ("bound", "champion", "baseline", "stability", "slices")
    asked_later = [gate(task, kind) for kind in kinds]
    asked_later[0].update(metric=METRICS[task][1], slice=None)
    asked_later[2]["baselines"] = ["average"]
    world.spec = spec_of(task, *asked_later)
    *_, again = whatif(world.pipeline(), world.services).nights
    told = {check.name: (check.outcome, check.value) for check in again.checks}
    in_night = {check.name: (check.outcome, check.value) for check in second.gate.verdict.checks}
    same = told.keys() & in_night.keys()
    assert len(same) >= 3, told
    assert {name: told[name] for name in same} == {name: in_night[name] for name in same}
    assert all(outcome == "PASS" for outcome, _ in told.values()), told


def test_league_scores_new_days(two_nights):
    """The second night's score step judges the champion on the day that it had not seen, by the task's own loss."""
    world, _, night = two_nights
    task = world.pipeline().spec.target.task
    (score,) = [s for s in night.score.scores if s.version == night.score.champion.version]
    assert set(score.losses) == set(LOSSES[task])
    assert score.predicted is None
    (version,) = [v for v in night.score.versions if v.champion]
    assert set(METRICS[task]) <= set(version.metrics)


def test_same_night_gives_the_same_bytes(two_nights, tmp_path):
    """Another machine fits the same model from the same days."""
    world, first, _ = two_nights
    other = World(tmp_path, world.spec).land_all(NIGHT)
    assert other.night(NIGHT).train.artifact_digest == first.train.artifact_digest


def raw_model(world, night, folder):
    """Return the registered model as MLflow would load it."""
    _, files = world.registry.download(night.train.mlflow_run_id, night.train.artifact_digest)
    for name, data in files.files.items():
        (folder / name).write_bytes(data)
    return RawRowsModel(folder)


def test_raw_rows_are_scored_as_at_night(two_nights, tmp_path):
    """The pyfunc gives raw rows of a hold-out day the night's kept predictions; quantiles are named and do not cross."""
    world, first, _ = two_nights
    day = NIGHT - DAY
    raw = pq.read_table(io.BytesIO(partition(day))).to_pandas().drop(columns="y").assign(dt=day)
    found = raw_model(world, first, tmp_path).predict(raw)
    kept = pq.read_table(io.BytesIO(world.store.get(first.evaluate.predictions))).sort_by("row_id")
    of_day = kept.filter(np.array([d == day for d in kept["dt"].to_pylist()]))
    wanted = np.array(of_day["challenger"].to_pylist())
    assert np.array_equal(found.to_numpy(), wanted)
    if wanted.ndim > 1:
        assert isinstance(found, pd.DataFrame)
        assert list(found.columns) == ["0.1", "0.5", "0.8"]
        assert (np.diff(wanted, axis=1) >= 0).all()


def test_models_learn(two_nights):
    """Both beat what a person could have written down, on days that they had not seen."""
    world, _, night = two_nights
    loss = LOSSES[world.pipeline().spec.target.task][0]
    for name in ("average", "recent 2"):
        days = night.evaluate.case.baselines[name][loss]
        assert np.mean([d.challenger for d in days]) < np.mean([d.baseline for d in days])


def world_of(tmp_path, task, **target):
    """Return a world of a task with a bound only."""
    spec = yaml.safe_load(spec_of(task, {"kind": "bound", "metric": METRICS[task][0], "at_least": -99.0, **SMALL}))
    return World(tmp_path, yaml.safe_dump({**spec, "target": {**TARGETS[task], **target}})).land_all(NIGHT + DAY)


def test_champion_of_other_quantiles_leaves_the_night_undecided(tmp_path):
    """Where the spec asks for other quantiles, the champion is not comparable, and the words name both."""
    world = world_of(tmp_path, "quantile")
    assert world.night(NIGHT).promote.promoted
    world.spec = yaml.safe_dump(
        {**yaml.safe_load(world.spec), "target": {**TARGETS["quantile"], "quantiles": [0.5, 0.9]}}
    )
    night = world.night(NIGHT + DAY)
    assert night.gate.verdict.outcome == "UNDECIDED"
    assert "predicts the quantiles 0.1, 0.5, 0.8, the spec asks for 0.5, 0.9" in night.evaluate.case.champion_problem


def test_champion_of_another_task_leaves_the_night_undecided(tmp_path):
    """Where the task has changed, the champion's figures are not read as those of the new one."""
    world = world_of(tmp_path, "regression")
    assert world.night(NIGHT).promote.promoted
    other = yaml.safe_load(spec_of("quantile", {"kind": "bound", "metric": "pinball", "at_most": 99.0}))
    world.spec = yaml.safe_dump(other)
    night = world.night(NIGHT + DAY)
    assert night.gate.verdict.outcome == "UNDECIDED"
    assert "made for a regression task, the spec asks for quantile" in night.evaluate.case.champion_problem


def test_one_quantile_is_enough(tmp_path):
    """A task of a single quantile runs through, and has no interval to cover."""
    night = world_of(tmp_path, "quantile", quantiles=[0.9]).night(NIGHT)
    assert night.promote.promoted
    assert night.evaluate.challenger.get("coverage") is None
    assert night.evaluate.challenger["pinball"] is not None


def test_list_over_two_days_is_refused(tmp_path):
    """A list that days tear apart ends the night, and the words say where it lies and what to write."""
    with pytest.raises(
        DataRejected,
        match=r"5 lists have rows of several days, the first from 2024-03-01 \(row .* of rows/.*name the day too",
    ):
        raise_of(world_of(tmp_path, "ranking", group="id % 5"))


def raise_of(world):
    """Run a night, and raise what it was rejected for."""
    night = world.night(NIGHT)
    assert night.ended
    assert night.ended.outcome == "rejected"
    raise DataRejected(night.ended.reason, night.ended.detail)


def test_row_without_a_list_has_no_label(tmp_path):
    """Rows that stand in no list are counted as unlabelled, and the night goes on without them."""
    night = world_of(tmp_path, "ranking", group="CASE WHEN id % 8 < 6 THEN dt || '/' || id % 8 END").night(NIGHT)
    assert night.promote.promoted
    assert night.train.unlabelled == 8 * 40 // 4


@pytest.mark.parametrize(
    ("sql", "words"),
    [("place", "needs a number, or TRUE for what is relevant"), ("x", "a relevance is 0 or more, found -")],
)
def test_target_that_is_no_relevance_is_refused(tmp_path, sql, words):
    """Texts and negative numbers cannot be ranked by; the words say what can."""
    with pytest.raises(SpecInvalid, match=words):
        world_of(tmp_path, "ranking", sql=sql).night(NIGHT)


def test_rows_of_one_relevance_end_the_night(tmp_path):
    """Where all rows are equally relevant there is no order to learn."""
    with pytest.raises(DataRejected, match="equally relevant"):
        raise_of(world_of(tmp_path, "ranking", sql="1"))


def test_group_that_does_not_run_is_named(tmp_path):
    """A group over a column that is not there is refused with the key that it stands under."""
    with pytest.raises(SpecInvalid, match=r"target\.group"):
        world_of(tmp_path, "ranking", group="session").night(NIGHT)


def test_replay_compares_policies(two_nights, tmp_path):
    """History is played again under both tasks: policies are compared by the task's own loss and metric, and the page is written."""
    world, *_ = two_nights
    pipeline = world.pipeline()

    def services(name):
        return sandboxed(world.machine("replay"), pipeline, tmp_path / name, tmp_path / "shared")

    with Crew(services, 1) as crew:
        found = replay(pipeline, Range(first=NIGHT, last=NIGHT + DAY, every=1), crew, lambda *_: None)
    task = pipeline.spec.target.task
    assert [night.outcome for night in found.nights] == ["promoted", "undecided"]
    assert (found.loss, found.metric) == (LOSSES[task][0], METRICS[task][0])
    assert not found.problems


def test_card_tells_of_quantiles(two_nights):
    """The card of a quantile model holds each quantile against the labels below it; of a ranking there is no such table."""
    world, first, _ = two_nights
    found = next(s for s in card(world.services, "small").sections if s.key == "metrics")
    tables = {table.title: table for table in found.tables}
    levels = first.evaluate.case.levels
    assert ("Calibration in the large" in tables) is bool(levels)
    for row, (name, level) in zip(
        tables["Calibration in the large"].rows if levels else (), levels.items(), strict=True
    ):
        assert row[:2] == (shown(float(name)), shown(level.below))


def test_rows_in_common_are_measured_again(two_nights):
    """Where two versions have scored different rows of a day, kept predictions of the common ones tell their losses."""
    world, _, night = two_nights
    ctx = Context(pipeline=world.pipeline(), night=night, services=world.services)
    (found,) = [s for s in night.score.scores if s.version == night.score.champion.version]
    other = found.model_copy(update={"rows": found.rows + 1})
    for side in over_common_rows(ctx, found, other):
        assert side.rows == found.rows
        assert side.losses == pytest.approx(found.losses)


@pytest.mark.parametrize("task", NEW)
def test_feature_that_says_the_label_holds_the_night(tmp_path, task):
    """A feature that alone explains a value, or a relevance, is found before it is believed."""
    world = world_of(tmp_path, task)
    label = TARGETS[task]["sql"]
    leaking = world.pipeline().model_copy(update={"sql": f"SELECT row_id, x, place, {label} AS told FROM rows"})
    night = world.night(NIGHT, pipeline=leaking)
    assert [(f.kind, f.subject, f.action) for f in night.train.findings if f.kind == "leak"] == [
        ("leak", "told", "hold")
    ]
    assert night.gate.verdict.outcome == "UNDECIDED"


@pytest.mark.parametrize(
    ("task", "sql"),
    [("quantile", "x + 50 * (dt >= '2024-03-08')::INT"), ("ranking", "(x > 0)::INT + 9 * (dt >= '2024-03-08')::INT")],
)
def test_labels_that_jump_are_found(tmp_path, task, sql):
    """The mean label of a day is held against those of the days before, as of a regression."""
    world = world_of(tmp_path, task, sql=sql)
    given = yaml.safe_load(world.spec)
    world.spec = yaml.safe_dump({**given, "validation": {**given["validation"], "window": {"min_history": 4}}})
    night = world.night(NIGHT)
    assert [(f.kind, f.subject, f.action) for f in night.validate_.findings] == [("labels", "mean", "hold")]


@pytest.mark.parametrize("task", NEW)
def test_segments_have_models_of_their_own(tmp_path, task):
    """One model for each value of a column: of a ranking, each learns from its own rows of every list, kept together."""
    turned = {  # what counts in the north counts the other way round in the south, so that a model of one place is worth having
        "quantile": "CASE WHEN place = 'north' THEN 6 * x ELSE -6 * x END + hash(id) % 100 / 20",
        "ranking": "((place = 'north') = (x + hash(id) % 100 / 300 > 0.2))::INT",
    }
    world = world_of(tmp_path, task, sql=turned[task])
    more = {"segments": {"by": "place", "min_rows": 20}, "evaluation": {"baselines": ["average"]}}
    world.spec = yaml.safe_dump({**yaml.safe_load(world.spec), **more})
    night = world.night(NIGHT)
    found, error = segments.run_all(night, world.pipeline(), world.services)
    assert error is None
    assert {segment.slug: segment.champion for segment in found.segments} == {"north": 1, "south": 1}
    ctx = Context(pipeline=world.pipeline().of_segment("north"), night=night, services=world.services)
    table = feature_frame(ctx, world.pipeline().sql).table
    assert set(table["place"].to_pylist()) == {"north"}
    if task == "ranking":
        assert (np.diff(lists_in(table)) >= 0).all()
