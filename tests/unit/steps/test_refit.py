"""A model that is fitted again on the hold-out too serves; what is proved is proved of the fit that had not seen it."""

from __future__ import annotations

import io
from datetime import date, timedelta

import pyarrow.parquet as pq
import pytest
import yaml
from small_world import NIGHT, SPEC, QuickTrainer, World

from fakes import Killed, Tripwire
from ratchet.adapters.xgb import predict
from ratchet.domain.cards import markdown
from ratchet.domain.models import ModelSchema
from ratchet.steps import frames
from ratchet.steps.card import card
from ratchet.steps.context import Context
from ratchet.steps.reproduce import reproduce

DAY = timedelta(days=1)
NEXT = NIGHT + DAY
REFIT = {"training__refit": True}


class Watching(QuickTrainer):
    """Remembers which days were fitted again, and over how many rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.again: list[tuple[date, int]] = []

    def refit(self, frame, days, plan, query, rounds):
        """See ``ports.Trainer.refit``."""
        self.again.append((days.last, rounds))
        return super().refit(frame, days, plan, query, rounds)


@pytest.fixture
def world(tmp_path):
    """Return a world with a whole window landed, whose spec asks for a second fit."""
    spec = yaml.safe_load(SPEC)
    spec["training"]["refit"] = True
    return World(tmp_path, yaml.safe_dump(spec)).land_all()


def holdout(world, night, services=None):
    """Return the hold-out's rows as the model sees them."""
    ctx = Context(pipeline=world.pipeline(), night=night, services=services or world.services)
    frame = frames.feature_frame(ctx, ctx.pipeline.sql)
    return frames.of_days(frame, ctx.windows.holdout.first, ctx.windows.holdout.last)


def test_one_fit_is_judged_and_the_other_registered(world, tmp_path):
    """The metrics are those of the night without a second fit; the version, its digest and the ledger are the second's."""
    plain = World(tmp_path / "plain").land_all().night()
    night = world.night()
    assert (night.outcome, night.evaluate.challenger) == ("promoted", plain.evaluate.challenger)
    assert night.train.evaluated == plain.train.artifact_digest != night.train.artifact_digest
    assert (night.train.rounds, night.train.rows) == (plain.train.rounds, plain.train.rows)
    assert (
        night.train.refitted == night.train.account.fitted + night.train.account.watched + night.train.account.held_out
    )
    (version,), (entry,) = world.registry.versions("small"), world.entries
    assert version.artifact_digest == entry.champion.artifact_digest == night.train.artifact_digest
    assert version.seen_through == night.train.seen_through == NIGHT
    run = world.registry.runs[night.train.mlflow_run_id]
    assert run.model["booster.ubj"] != run.evaluated["booster.ubj"]
    assert (run.metrics["train.refitted"], run.tags["ratchet.artifact_digest"]) == (320, version.artifact_digest)


def test_the_second_fit_grows_the_rounds_that_were_kept_on_all_days(world):
    """Up to the hold-out's last day, with as many rounds as early stopping kept of the first fit."""
    trainer = Watching()
    night = world.night(services=world.machine("cache", trainer))
    assert trainer.again == [(NIGHT, night.train.rounds)]


def test_predictions_that_are_kept_are_those_of_the_fit_that_was_judged(world):
    """Whoever asks later what the hold-out showed is told of the model that had not seen it."""
    night = world.night()
    run = world.registry.runs[night.train.mlflow_run_id]
    kept = pq.read_table(io.BytesIO(world.store.get(night.evaluate.predictions)))["challenger"].to_numpy()
    rows = holdout(world, night)

    def scores(files):
        return predict(files["booster.ubj"], ModelSchema.model_validate_json(files["schema.json"]), rows)

    assert (scores(run.evaluated) == kept).all()
    assert (scores(run.model) != kept).any()


def test_the_registered_artifact_is_what_the_smoke_test_tries(world):
    """One that was tampered with is refused, although the evaluated one is whole."""
    night = world.until("register")
    world.registry.tamper(night.train.mlflow_run_id)
    night = world.step("register", night)
    assert "sha256" in night.register_.smoke
    assert world.step("gate", night).gate.verdict.outcome != "PASS"


def test_the_champion_is_scored_only_on_days_after_all_that_it_has_met(world):
    """The night after has one day that is new to it; that day is evidence, and no other."""
    world.night()
    world.land(NEXT)
    night = world.night(NEXT)
    assert (night.evaluate.common_rows, night.evaluate.rows) == (40, 120)
    assert {day.day for day in night.score.scores} == {NEXT}
    assert night.findings == ()
    assert night.train.audited[1].endswith(f"champion has met none after {NIGHT}")


def test_a_night_whose_champion_has_met_all_of_the_holdout_proves_nothing_against_it(world):
    """A changed recipe on the same data: there is no day on which both could be compared, so the champion stays."""
    world.night()
    night = world.night(pipeline=world.pipeline(training__params__eta=0.3))
    assert night.evaluate.common_rows == 0
    assert (night.outcome, world.champion) == ("undecided", 1)


def test_the_registered_bytes_are_built_again(world):
    """From snapshot and recipe, both fits anew, on a machine that has nothing."""
    world.night()
    found = reproduce(world.machine("elsewhere"), "small", 1)
    assert (found.identical, found.differing) == (True, ())


def test_drift_is_held_against_a_profile_that_is_found_by_the_registered_model(world):
    """The night after finds what the champion was trained on, without making it again."""
    night = world.night()
    kept = world.store.keys("profiles/small/")
    assert kept == [f"profiles/small/{NIGHT}/{night.train.artifact_digest}.json"]


def test_a_recipe_is_tried_as_its_nights_would_fit_it(tmp_path):
    """Each day of a trial is scored by models that were fitted again up to the day before, both sides alike."""
    spec = yaml.safe_load(SPEC.replace("days: 8,", "days: 20,"))
    spec["training"]["refit"] = True
    spec["gates"] = [
        {"kind": "bound", "metric": "auc", "at_least": 0.5, "min_rows": 50},
        {"kind": "evidence", "loss": "log_loss", "backfill_days": 3},
    ]
    newest = NIGHT + 12 * DAY
    world = World(tmp_path, yaml.safe_dump(spec)).land_all(newest + DAY)
    world.night(newest)
    trainer = Watching()
    changed = world.pipeline(training__params__eta=0.3)
    night = world.night(newest + DAY, services=world.machine("cache", trainer), pipeline=changed)
    assert night.evaluate.case.trial.lane == "recipe"
    tried = [last for last, _ in trainer.again[1:]]
    assert tried == [newest - 2 * DAY] * 2 + [newest - DAY] * 2 + [newest] * 2


@pytest.mark.parametrize("write", ["log_model", "finish", "register"])
def test_a_night_that_is_killed_ends_as_if_it_had_not_been(world, tmp_path, write):
    """Between the two models of a run, and after both: the night that is run again registers the same bytes."""
    whole = World(tmp_path / "whole", world.spec).land_all().night()
    counting = Tripwire()
    copy = world.copy(tmp_path / "copy")
    copy.arm(counting)
    copy.night()
    at = [i for i, what in enumerate(counting.seen, start=1) if what.startswith(write)][-1]
    world.arm(Tripwire(at))
    with pytest.raises(Killed):
        world.night()
    world.arm(Tripwire())
    night = world.night()
    assert (night.outcome, night.train.artifact_digest) == ("promoted", whole.train.artifact_digest)
    assert night.train.evaluated == whole.train.evaluated


@pytest.mark.parametrize(
    ("target", "gate"),
    [
        ({"task": "regression", "sql": "x + z"}, {"metric": "rmse", "at_most": 9.0}),
        (
            {"task": "multiclass", "sql": "CASE WHEN x > 1 THEN 'a' WHEN x > 0 THEN 'b' ELSE 'c' END"},
            {"metric": "macro_f1", "at_least": 0.1},
        ),
        ({"task": "quantile", "sql": "x + z"}, {"metric": "pinball", "at_most": 9.0}),
    ],
    ids=lambda value: value.get("task", ""),
)
def test_every_task_can_be_fitted_again(tmp_path, target, gate):
    """The second fit serves, is tried in a fresh load, and is built again."""
    spec = yaml.safe_load(SPEC)
    spec["training"]["refit"] = True
    spec["target"], spec["gates"] = target, [{"kind": "bound", **gate}]
    world = World(tmp_path, yaml.safe_dump(spec)).land_all()
    checks = {"validation__window__leak__action": "off"}
    night = world.night(pipeline=world.pipeline(**checks))
    assert (night.outcome, night.register_.smoke) == ("promoted", None)
    assert night.train.evaluated
    assert reproduce(world.services, "small", 1).identical
    assert "It knows of" not in markdown(card(world.services, "small"))


def test_a_class_that_only_the_second_fit_knows_is_told(world):
    """It came with the hold-out: the model that serves gives it, and no figure of the one that was judged speaks of it."""
    first = world.pipeline().spec.windows(NIGHT).holdout.first
    late = f"CASE WHEN x > 1 AND dt >= DATE '{first}' THEN 'late' WHEN x > 0 THEN 'b' ELSE 'c' END"
    gates = [{"kind": "bound", "metric": "macro_f1", "at_least": 0.1}]
    target = {"task": "multiclass", "sql": late}
    night = world.night(pipeline=world.pipeline(target=target, gates=gates, validation__window__leak__action="off"))
    assert night.register_ is not None, night.reasons
    lines = markdown(card(world.services, "small", 1)).splitlines()
    assert [line for line in lines if "rows of the hold-out are of a class that training never met" in line]
    (said,) = [line for line in lines if "It knows of" in line]
    assert "It knows of late from the days of its hold-out alone" in said
    assert "no figure here says how well it tells it" in said
