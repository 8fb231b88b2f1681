"""tune: searches that are due, resumable, blind to the hold-out, and parameters in between."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import yaml
from small_world import DAYS, FIRST, NIGHT, QuickTrainer, World

from fakes import Killed, Tripwire
from ratchet.adapters.sandbox import FolderRegistry, FolderStore
from ratchet.domain import layout
from ratchet.domain.night import STEPS, NightRequest
from ratchet.domain.tuning import Found, SearchTrial
from ratchet.errors import SpecInvalid
from ratchet.spec import Pipeline
from ratchet.steps import frames, segments
from ratchet.steps.context import Context
from ratchet.steps.night import begin
from ratchet.steps.reproduce import reproduce
from ratchet.steps.tune import unheld

DAY = timedelta(days=1)
SPACE = {"max_depth": {"low": 1, "high": 4}, "eta": {"low": 0.05, "high": 0.8, "log": True}}
TUNING = {"trials": 7, "parallel": 3, "every_days": 5, "patience_days": 3, "space": SPACE}


class Spy(QuickTrainer):
    """The trainer, which notes what it is given, and may do something before each boost."""

    def __init__(self, before=lambda _number: None):
        super().__init__()
        self.newest, self.boosts = [], 0
        self._before, self._lock = before, threading.Lock()

    def prepare(self, frame, days, plan, query):
        """Note the newest day that is learnt from."""
        self.newest.append(pc.max(frame.table["dt"]).as_py())
        return super().prepare(frame, days, plan, query)

    def boost(self, prepared, plan, after=None):
        """Count, and do what is asked."""
        with self._lock:
            self.boosts += 1
            number = self.boosts
        self._before(number)
        return super().boost(prepared, plan, after)

    def predict(self, files, table):
        """Note the newest day that is scored."""
        self.newest.append(pc.max(table["dt"]).as_py())
        return super().predict(files, table)


def crossed(day, rows=60):
    """Return a day on which the label is where two signs agree: trees of depth 1 see nothing of it."""
    random = np.random.default_rng(day.toordinal())
    x, z = random.normal(size=rows), random.normal(size=rows)
    return {"x": x, "z": z, "y": (x * z > 0) ^ (random.random(rows) < 0.1), "rows": rows}


@pytest.fixture(scope="module")
def _lake(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("tuned"))
    for i in range(DAYS + 9):
        made.land(FIRST + i * DAY, **crossed(FIRST + i * DAY))
    return made


@pytest.fixture
def world(_lake, tmp_path):
    """A world whose spec asks for depth 1, where depth 2 is needed."""
    return _lake.copy(tmp_path)


def pipeline(world, **tuning):
    return world.pipeline(
        training__tuning={**TUNING, **tuning}, training__params={"max_depth": 1, "eta": 0.5, "lambda": 2.0}
    )


def searched(world, cutoff=NIGHT, trainer=None, **tuning):
    """Return what tune says of a night that stops there."""
    services = dataclasses.replace(world.services, trainer=trainer) if trainer else world.services
    night = world.until("tune", cutoff, services, pipeline(world, **tuning))
    return world.step("tune", night, services, pipeline(world, **tuning))


def found(world):
    """Return the searches on record, without what depends on the clock or on the tracking server."""
    records = [Found.model_validate_json(data) for data in world.store.contents("tuning/small/found/").values()]
    return [plain(record) for record in records]


def plain(record):
    told = [trial.model_copy(update={"seconds": 0.0, "mlflow_run_id": ""}) for trial in record.trials]
    return record.model_copy(update={"trials": tuple(told), "mlflow_run_id": "", "mlflow_url": ""})


@pytest.mark.parametrize(
    ("target", "loss"),
    [
        ({"task": "multiclass", "sql": "CASE WHEN y THEN place ELSE 'none' END"}, "log_loss"),
        ({"task": "regression", "sql": "x + y::INT"}, "squared_error"),
        ({"task": "quantile", "sql": "x + y::INT", "quantiles": [0.1, 0.5]}, "pinball"),
        ({"task": "ranking", "sql": "y::INT", "group": "dt || '/' || id % 8"}, "ndcg_loss"),
    ],
    ids=lambda given: given["task"] if isinstance(given, dict) else given,
)
def test_every_task_is_tuned(world, target, loss):
    """Trials of each task are scored by its loss, and the night goes on with what was found."""
    spec = yaml.safe_load(world.spec)
    metric = {"multiclass": "accuracy", "regression": "rmse", "quantile": "coverage", "ranking": "ndcg"}[target["task"]]
    gates = [{"kind": "bound", "metric": metric, "at_least": 0.0, "min_rows": 20}]
    world.spec = yaml.safe_dump({**spec, "target": target, "gates": gates})
    night = world.night(pipeline=pipeline(world))
    assert (night.outcome, night.tune.searched) == ("promoted", True), night.reasons
    scores = [trial.score for trial in night.tune.trials if trial.state == "finished"]
    assert len(scores) > 1
    run = world.registry.runs[night.tune.trials[0].mlflow_run_id]
    assert run.metrics[loss] == night.tune.trials[0].score


def test_without_tuning_the_spec_decides(world):
    """Nothing is searched, recorded or changed where the spec does not ask for it."""
    plain_pipeline = world.pipeline()
    night = world.until("train", pipeline=plain_pipeline)
    assert (night.tune.source, night.tune.params) == ("spec", plain_pipeline.spec.training.params)
    assert night.recipe_spec == plain_pipeline.recipe
    assert world.store.keys("tuning/") == world.store.keys(f"runs/small/{night.run_key}/tune") == []


def test_search_finds_the_better_region_and_the_night_fits_it(world):
    """The first night searches; its challenger is fitted with what was found, of whose recipe it is from then on."""
    night = world.night(pipeline=pipeline(world))
    tuned = night.tune
    assert (tuned.source, tuned.searched, tuned.seen_through) == (
        "search",
        True,
        world.pipeline().spec.windows(NIGHT).stop.last,
    )
    scores = {trial.params["max_depth"]: trial.score for trial in tuned.trials if trial.score}
    assert tuned.params["max_depth"] >= 2
    assert tuned.params["lambda"] == 2.0
    assert min(scores.values()) < scores[1] - 0.1
    assert (tuned.trials[0].origin, tuned.trials[0].params) == ("spec", {"max_depth": 1, "eta": 0.5})
    run = world.registry.runs[night.train.mlflow_run_id]
    assert run.params["max_depth"] == str(tuned.params["max_depth"])
    kept = Pipeline.model_validate_json(world.store.get(layout.recipe("small", night.recipe_spec)))
    assert kept.recipe == night.recipe_spec == night.register_.version.recipe_spec != pipeline(world).recipe
    assert kept.spec.training.params == tuned.params


def test_version_with_found_parameters_is_built_again_byte_for_byte(world):
    """What was found is part of the recipe on record; no search is made again for it."""
    night = world.night(pipeline=pipeline(world))
    trainer = Spy()
    made = reproduce(dataclasses.replace(world.services, trainer=trainer), "small", night.register_.version.version)
    assert (made.identical, trainer.boosts) == (True, 1)


def test_champions_parameters_are_used_in_between(world):
    """The night after, nothing is due: the challenger is of the champion's recipe, and what it is worth is a matter of data only."""
    first = world.night(pipeline=pipeline(world))
    second = world.night(NIGHT + DAY, pipeline=pipeline(world))
    assert first.outcome == "promoted"
    assert (second.tune.source, second.tune.searched, second.tune.trials) == ("champion", False, ())
    assert (second.tune.params, second.recipe_spec) == (first.tune.params, first.recipe_spec)
    assert second.tune.seen_through == first.tune.seen_through


def test_found_parameters_are_tried_for_their_days(world):
    """What was found and not promoted is fitted again on the next nights, until its days are over."""
    champion = world.night(pipeline=world.pipeline(training__params={"max_depth": 2, "eta": 0.3}))
    assert champion.outcome == "promoted"
    nights = [searched(world, NIGHT + i * DAY, trials=12).tune for i in range(1, 5)]
    assert nights[0].params != {"max_depth": 2, "eta": 0.3, "lambda": 2.0}, "the search found something else"
    assert [night.source for night in nights] == ["search", "search", "search", "champion"]
    assert nights[0].params == nights[1].params == nights[2].params
    assert nights[3].params == {"max_depth": 2, "eta": 0.3, "lambda": 2.0}
    assert nights[0].trials[0].origin == "champion"
    assert nights[0].trials[1].origin == "spec"


def test_search_is_due_again(world):
    """So many days after the last one it is made anew, and begins with the champion's parameters."""
    world.night(pipeline=pipeline(world))
    again = searched(world, NIGHT + 5 * DAY).tune
    assert again.searched
    assert again.why.startswith("searched, because the last search was 5 days ago, every_days is 5")
    assert again.trials[0].origin == "champion"


def test_changed_space_is_searched_at_once(world):
    """What the user changes of parameters or space makes a search due."""
    searched(world)
    wider = {**SPACE, "max_depth": {"low": 1, "high": 5}}
    assert "has changed in the spec" in searched(world, NIGHT + DAY, space=wider).tune.why


def test_older_night_is_blind_to_later_searches(world):
    """A night of the past that is run afterwards does not use what was found since."""
    searched(world, NIGHT + DAY)
    assert searched(world).tune.why.startswith("searched, because there has been no search yet")


def test_holdout_never_reaches_a_search(world):
    """No frame and no table that the trainer is given during a search has a row of the hold-out."""
    trainer = Spy()
    night = world.until("tune", pipeline=pipeline(world))
    trainer.newest.clear()
    services = dataclasses.replace(world.services, trainer=trainer)
    world.step("tune", night, services, pipeline(world))
    holdout = world.pipeline().spec.windows(NIGHT).holdout
    assert len(trainer.newest) > 5
    assert max(trainer.newest) == holdout.first - DAY


def test_days_that_run_into_the_holdout_are_refused(world):
    """The cut is asserted, not assumed."""
    night = world.until("tune", pipeline=pipeline(world))
    ctx = Context(pipeline(world), night, world.services)
    frame, days = frames.feature_frame(ctx, ctx.pipeline.sql), ctx.windows
    late = days.model_copy(update={"stop": days.stop.model_copy(update={"last": days.holdout.first})})
    with pytest.raises(AssertionError):
        unheld(frame, late)
    assert unheld(frame, days).table.num_rows == frame.table.num_rows - frame.count(days.holdout)


def test_trials_are_scored_on_as_many_days_as_asked(world):
    """More days than those of early stopping say more, and are taken from those that are fitted to."""
    assert len(searched(world, days=3).tune.days) == 3
    with pytest.raises(SpecInvalid, match=r"training\.tuning\.days: 5 leaves no day to fit on"):
        pipeline(world, days=5)


def test_who_ends_first_decides_nothing(world, tmp_path):
    """Trials of a batch that end in another order give the same search, to the last digit."""
    other = world.copy(tmp_path / "other")
    searched(world, trainer=Spy(lambda n: time.sleep(0.05 * (n % 3))))
    searched(other, trainer=Spy(lambda n: time.sleep(0.05 * ((3 - n) % 3))))
    assert found(world) == found(other)


def test_repeated_step_searches_no_more(world):
    """A step that is run again reads its record; a record that was lost is made of the recorded search."""
    first = searched(world).tune
    trainer = Spy()
    assert searched(world, trainer=trainer).tune == first
    [record] = [key for key in world.store.keys("runs/") if key.endswith("tune.json")]
    world.store.delete(record)
    assert searched(world, trainer=trainer).tune == first
    assert trainer.boosts == 0


def test_search_goes_on_after_a_crash_at_any_write(world, tmp_path):
    """Wherever the process dies, the next attempt repeats no recorded trial and finds what it would have found."""
    whole = world.copy(tmp_path / "whole")
    services = dataclasses.replace(whole.services, trainer=Spy())
    night = whole.until("tune", services=services, pipeline=pipeline(whole))
    tripwire = Tripwire()
    whole.arm(tripwire)
    whole.step("tune", night, services, pipeline(whole))
    expected, writes = found(whole), len(tripwire.seen)
    assert writes > 30
    for at in range(1, writes + 1, 3):
        struck = world.copy(tmp_path / f"at{at}")
        dead = Spy()
        night = struck.until("tune", pipeline=pipeline(struck))
        struck.arm(Tripwire(at))
        with pytest.raises(Killed):
            struck.step("tune", night, dataclasses.replace(struck.services, trainer=dead), pipeline(struck))
        struck.arm(Tripwire())
        recorded = len(struck.store.keys("tuning/small/trials/"))
        again = Spy()
        struck.step("tune", night, dataclasses.replace(struck.services, trainer=again), pipeline(struck))
        assert found(struck) == expected, tripwire.seen[at - 1]
        assert again.boosts == len(expected[0].trials) - recorded
        left = [run.status for run in struck.registry.runs.values() if run.status == "RUNNING"]
        assert left == [], tripwire.seen[at - 1]


def test_runs_lie_below_the_search(world):
    """Each trial is a run of its own below the search's; the search's says what has won."""
    tuned = searched(world).tune
    runs = world.registry.runs
    [parent] = [run_id for run_id, run in runs.items() if run.name.startswith("search ")]
    children = {run_id: run for run_id, run in runs.items() if run.parent == parent}
    assert set(children) == {trial.mlflow_run_id for trial in tuned.trials}
    assert {run.status for run in runs.values()} <= {"FINISHED", "FAILED"}
    assert float(runs[parent].metrics["best.log_loss"]) == min(t.score for t in tuned.trials if t.score)
    first = runs[tuned.trials[0].mlflow_run_id]
    assert (first.params, first.metrics["log_loss"]) == ({"max_depth": "1", "eta": "0.5"}, tuned.trials[0].score)


def test_deleted_run_stops_no_search(world):
    """Where somebody has deleted the run of a search that was killed, another one is begun."""
    night = world.until("tune", pipeline=pipeline(world))
    world.arm(Tripwire(12))
    with pytest.raises(Killed):
        world.step("tune", night, pipeline=pipeline(world))
    world.arm(Tripwire())
    [parent] = [run_id for run_id, run in world.registry.runs.items() if run.name.startswith("search ")]
    world.registry.discard(parent)
    assert world.step("tune", night, pipeline=pipeline(world)).tune.searched
    assert parent not in world.registry.runs


def test_time_is_counted_over_restarts(world):
    """A search that was killed after its minutes begins no trial more; what it had is what it chooses from."""
    night = world.until("tune", pipeline=pipeline(world, minutes=1.0))
    world.arm(Tripwire(14))
    with pytest.raises(Killed):
        world.step("tune", night, pipeline=pipeline(world, minutes=1.0))
    world.arm(Tripwire())
    made = world.store.keys("tuning/small/trials/")
    last = SearchTrial.model_validate_json(world.store.get(made[-1]))
    world.store.put(made[-1], last.model_copy(update={"elapsed": 60.0}).model_dump_json().encode())
    batch = 1 + -(-(len(made) - 1) // 3) * 3  # the trial that the spec names, then three at once
    tuned = world.step("tune", night, pipeline=pipeline(world, minutes=1.0)).tune
    assert len(made) <= len(tuned.trials) == batch < 7


def test_dry_run_keeps_no_trial(world):
    """It decides the same, and leaves nothing that a later night would go by."""
    night = world.night(pipeline=pipeline(world), dry_run=True)
    assert night.tune.searched
    assert world.store.keys("tuning/") == []
    assert {run.tags["ratchet.dry_run"] for run in world.registry.runs.values()} == {"true"}
    assert world.night(pipeline=pipeline(world)).tune.params == night.tune.params


def test_trial_that_cannot_be_fitted_does_not_win(world):
    """What XGBoost refuses is a failed trial, told with the reason; the search goes on."""
    space = {**SPACE, "grow_policy": {"choices": ["depthwise", "sideways"]}}
    tuned = searched(world, space=space, trials=10).tune
    failed = [trial for trial in tuned.trials if trial.state == "failed"]
    assert failed
    assert all("grow_policy" in trial.problem or "sideways" in trial.problem for trial in failed)
    assert tuned.params.get("grow_policy") != "sideways"


def test_search_in_which_nothing_can_be_fitted_is_the_specs_fault(world):
    """After a few trials it is given up, and the error says what the first one said."""
    hopeless = world.pipeline(training__tuning={**TUNING, "trials": 30}, training__params={"grow_policy": "sideways"})
    trainer = Spy()
    services = dataclasses.replace(world.services, trainer=trainer)
    night = world.until("tune", services=services, pipeline=hopeless)
    with pytest.raises(SpecInvalid, match=r"training\.tuning: none of \d trials could be fitted"):
        world.step("tune", night, services, hopeless)
    assert trainer.boosts <= 4
    assert {run.status for run in world.registry.runs.values()} == {"FAILED"}


def test_too_few_rows_are_left_to_train(world):
    """A night that will be skipped searches for nothing."""
    few = world.pipeline(training__tuning=TUNING, window__min_rows=10_000)
    night = world.night(pipeline=few)
    assert (night.ended.step, night.ended.reason, night.tune.searched) == ("train", "too_few_rows", False)


def test_evidence_is_not_taken_from_days_that_chose(world):
    """Found parameters are tried on days after those that the search has met: it chose them because they did well there."""
    world.gated(
        {"kind": "bound", "metric": "auc", "at_least": 0.2, "min_rows": 50},
        {"kind": "evidence", "loss": "log_loss", "backfill_days": 6},
    )
    late = NIGHT + 6 * DAY
    world.night(late, pipeline=world.pipeline(training__params={"max_depth": 2, "eta": 0.1}, window__days=14))
    asked = {"training__tuning": {**TUNING, "trials": 12}, "training__params": {"max_depth": 1}, "window__days": 14}
    night = world.night(late + DAY, pipeline=world.pipeline(**asked))
    assert night.evaluate.case.trial.lane == "recipe"
    days = [key.rpartition("/")[2].removesuffix(".json") for key in world.store.keys("trials/")]
    assert days
    assert min(days) > str(night.tune.seen_through)


def test_nor_by_a_segment_whose_champion_has_others(world):
    """Where all rows' champion has found parameters already, and a segment's has not, that they were chosen by some days still counts."""
    world.gated(
        {"kind": "bound", "metric": "auc", "at_least": 0.1, "min_rows": 10},
        {"kind": "evidence", "loss": "log_loss", "backfill_days": 6},
    )
    for i in range(DAYS + 7):
        day, random = crossed(FIRST + i * DAY), np.random.default_rng(i)
        south = np.arange(len(day["x"])) % 2 == 1
        hot = (day["x"] > 0) ^ south ^ (random.random(len(south)) < 0.1)  # each place is worth a model of its own
        world.land(FIRST + i * DAY, **{**day, "place": np.where(south, "south", "north"), "y": hot})
    parts, late = {"segments": {"by": "place", "min_rows": 20}, "window__days": 14}, NIGHT + 6 * DAY
    plain = world.pipeline(training__params={"max_depth": 2, "eta": 0.1}, **parts)
    segments.run_all(world.night(late, pipeline=plain), plain, world.services)
    tuned = world.pipeline(training__tuning={**TUNING, "trials": 12}, training__params={"max_depth": 1}, **parts)
    night = world.night(late + DAY, pipeline=tuned)
    served = night.model_copy(update={"tune": night.tune.model_copy(update={"source": "champion"})})
    segments.run_all(served, tuned, world.services)
    days = [key.rpartition("/")[2].removesuffix(".json") for key in world.store.keys("trials/small--north/")]
    assert days
    assert min(days) > str(night.tune.seen_through)


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
import test_tune
test_tune.struck(Path({folder!r}), lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == 5 else None)
"""


def struck(folder: Path, before) -> tuple[Found, Spy, FolderStore]:
    """Run a night up to tune, over records on disk, with something done before each boost."""
    made = World(folder / "lake")
    for i in range(DAYS):
        made.land(FIRST + i * DAY, **crossed(FIRST + i * DAY))
    trainer, store = Spy(before), FolderStore(folder / "world", folder / "shared", made.store, ["s3://lake/rows/"])
    made.services = dataclasses.replace(made.services, store=store, registry=FolderRegistry(store), trainer=trainer)
    asked, flow = NightRequest(pipeline="small", cutoff=NIGHT, actor="tests"), pipeline(made, parallel=1)
    night = begin(asked, flow).model_copy(update={"code_digest": "the same"})  # though somebody edits it meanwhile
    for name in STEPS[: STEPS.index("train")]:
        night = made.step(name, night, made.services, flow)
    record = Found.model_validate_json(store.get(night.tune.search))
    return plain(record), trainer, store


def test_killed_process_is_gone_on_with(tmp_path):
    """A process that is killed by SIGKILL in the fifth trial has left four; the next one makes the others and finds the same."""
    here = Path(__file__).parent
    code = CHILD.format(paths=[str(here), str(here.parents[1])], folder=str(tmp_path / "killed"))
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    trials = sorted((tmp_path / "killed" / "world" / "tuning" / "small" / "trials").rglob("*.json"))
    assert [json.loads(path.read_text())["number"] for path in trials] == [0, 1, 2, 3]
    after, trainer, _ = struck(tmp_path / "killed", lambda _: None)
    whole, _, _ = struck(tmp_path / "whole", lambda _: None)
    assert trainer.boosts == TUNING["trials"] - 4
    assert after == whole
