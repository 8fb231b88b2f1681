"""How a night's fit is asked for: what the machine decides, what the spec does, and what is recorded."""

from __future__ import annotations

import re

import pytest
from small_world import SPEC, QuickTrainer, World

from ratchet import provenance
from ratchet.errors import SpecInvalid
from ratchet.steps.reproduce import reproduce

FREE = SPEC.replace("threads: 1, ", "")


class Asked(QuickTrainer):
    """Notes by what plan each fit was asked for."""

    def __init__(self):
        super().__init__(memory_gib=1e-6)  # matrices lie on disk
        self.plans = []

    def boost(self, prepared, plan, after=None):
        """See ``ports.Trainer.boost``."""
        assert prepared.on_disk
        self.plans.append(plan)
        return super().boost(prepared, plan, after)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a world in which one night went well, by a spec that says nothing of threads."""
    made = World(tmp_path_factory.mktemp("fits"), FREE).land_all()
    made.first = made.night()
    return made


def test_threads_follow_the_machine_and_are_recorded(world):
    """A spec that says nothing gets all that the process may use; the night and MLflow know how many."""
    assert world.first.train.threads == provenance.cpus()
    run = world.registry.runs[world.first.train.mlflow_run_id]
    assert run.params["threads"] == str(provenance.cpus())
    assert world.pipeline().recipe == world.pipeline(training__threads=7).recipe


def test_a_machine_with_little_memory_builds_the_same_bytes_again(world):
    """By as many threads as made them, with matrices on disk; nothing of these stays in its cache."""
    trainer = Asked()
    services = world.machine("elsewhere", trainer)
    assert reproduce(services, "small", 1).identical
    assert {plan.threads for plan in trainer.plans} == {world.first.train.threads}


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"training__class_weights": {"late": 3.0}}, r"training\.class_weights: .* class 'late'; there are: '0', '1'"),
        ({"training__monotone": {"place": "increasing"}}, r"training\.monotone\.place: 'place' is a category"),
        ({"training__monotone": {"w": "decreasing"}}, r"training\.monotone\.w: 'w' is no feature .* there are: x, z"),
    ],
)
def test_what_the_rows_cannot_be_asked_for_ends_the_night_in_words(world, training, words, tmp_path):
    """With the key and the choices, before anything is fitted."""
    with pytest.raises(SpecInvalid) as caught:
        world.copy(tmp_path).night(pipeline=world.pipeline(**training))
    assert re.search(words, str(caught.value))


def test_weights_and_order_make_other_recipes_whose_nights_go_through(world, tmp_path):
    """All of them at once, from fit to verdict."""
    other = world.pipeline(
        training__class_weights="balanced", training__half_life_days=4.0, training__monotone={"x": "increasing"}
    )
    assert other.recipe != world.pipeline().recipe
    night = world.copy(tmp_path).night(pipeline=other)
    assert night.register_
    assert night.train.artifact_digest != world.first.train.artifact_digest
