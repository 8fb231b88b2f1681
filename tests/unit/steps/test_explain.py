"""Each night says what its challenger looks at, and how far that is from what the champion looks at."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
from small_world import NIGHT, QuickTrainer, World

from ratchet.adapters.report import HtmlReporter
from ratchet.domain import layout
from ratchet.domain.explanations import Explanation
from ratchet.errors import NotExplained

NEXT = NIGHT + timedelta(days=1)


def test_a_night_is_explained(world):
    """The feature that decides the label comes first, with its interval over days; every slice is told."""
    night = world.night()
    found = night.evaluate.explanation
    first = found.features[0]
    assert first.name == "x"
    assert first.share > 0.5
    assert first.low <= first.mean <= first.high
    assert (found.rows, found.days) == (120, 3)
    assert {(s.column, s.value) for s in found.slices} == {("place", "north"), ("place", "south")}
    assert sum(s.rows for s in found.slices) == 120
    assert found.drift is None  # nobody served before
    kept = world.store.get(layout.explanation("small", night.run_key, dry_run=False))
    assert Explanation.model_validate_json(kept).brief == found


def test_the_champion_is_explained_on_the_same_rows(reigning):
    """With a champion, each feature's share stands beside the champion's, on the rows that neither has seen."""
    reigning.land(NEXT)
    found = reigning.night(NEXT).evaluate.explanation
    assert found.drift.version == 1
    assert 0 < found.drift.rows <= found.rows
    assert found.drift.distance < 0.2
    assert not found.drift.warning
    assert abs(sum(f.champion for f in found.features) - 1) < 1e-6


def test_a_model_that_looks_elsewhere_is_noticed(world):
    """Labels that follow another feature from one night on move the importance, and a person reads so; no gate does."""
    world.night()
    for i in range(1, 9):
        day = NIGHT + timedelta(days=i)
        random = np.random.default_rng(day.toordinal())
        random.normal(size=40)  # x, which is drawn before
        z = random.normal(size=40)
        world.land(day, y=z > 0)
    night = world.night(NIGHT + timedelta(days=8))
    drift = night.evaluate.explanation.drift
    assert drift.distance > 0.3
    assert list(drift.gained)[:2] in (["x", "z"], ["z", "x"])
    assert drift.gained["z"] > 0.3
    assert "z +" in drift.warning


def test_a_rerun_explains_the_same(world, tmp_path):
    """Another machine with another cache finds the same explanation, byte for byte."""
    key = layout.explanation("small", world.night().run_key, dry_run=False)
    again = World(tmp_path / "again").land_all()
    again.night()
    assert again.store.get(key) == world.store.get(key)


def test_texts_that_training_never_met_are_counted(world):
    """The hold-out's unknown categories and missing values stand with the explanation."""
    world.land(NIGHT, place=["east"] * 10 + ["north"] * 30, z=[None] * 20 + [0.5] * 20)
    found = world.night().evaluate.explanation
    assert found.unseen == {"place": 10}
    assert found.missing == {"z": 20 / 120}
    assert ("place", "east") in {(s.column, s.value) for s in found.slices}


def test_the_page_says_what_the_challenger_looks_at(reigning):
    """The night's page draws each feature beside the champion's, slice by slice, and leads to the version's card."""
    reigning.land(NEXT)
    night = reigning.night(NEXT, services=replace(reigning.services, reporter=HtmlReporter()))
    page = reigning.store.get(night.report.page).decode()
    assert 'href="#explained"' in page
    assert "What the predictions rest on" in page
    assert "No feature has taken another’s place." in page
    assert "place = north" in page
    assert 'href="../../../cards/small/2.html"' in page
    night = reigning.night(
        NEXT, services=replace(reigning.machine("mute", Mute()), reporter=HtmlReporter()), dry_run=True
    )
    page = reigning.store.get(night.report.page).decode()
    assert "There is no explanation: the model cannot be explained: it is opaque" in page
    assert "../cards/" not in page


class Mute(QuickTrainer):
    """Cannot explain anything."""

    def contributions(self, *_):
        """See ``ports.Trainer.contributions``."""
        raise NotExplained("it is opaque")


def test_a_model_that_cannot_be_explained_stands_all_the_same(world):
    """No verdict waits for an explanation; the night says why there is none."""
    night = world.night(services=world.machine("mute", Mute()))
    assert night.outcome == "promoted"
    assert night.evaluate.explanation.problem == "the model cannot be explained: it is opaque"
    assert night.evaluate.explanation.features == ()
