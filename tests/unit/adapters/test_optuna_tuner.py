"""What Optuna proposes: inside of the space, the same for the same answers, and better where the answers say so."""

from __future__ import annotations

import math

from ratchet.adapters.optuna_tuner import OptunaTuner
from ratchet.domain.training_rules import Choices, Range
from ratchet.domain.tuning import SearchTrial

SPACE = {
    "eta": Range(low=0.01, high=0.3, log=True),
    "max_depth": Range(low=2, high=10),
    "grow_policy": Choices(choices=("depthwise", "lossguide", [1, 2])),
}


def told(number, params, score, **facts):
    return SearchTrial(number=number, origin="drawn", params=dict(params), state="finished", score=score, **facts)


def search(batch, seed=7, trials=24, loss=lambda p: abs(math.log(p["eta"] / 0.05)) + abs(p["max_depth"] - 4)):
    study, asked = OptunaTuner().study(SPACE, seed, trials), []
    while len(asked) < trials:
        params = study.ask(batch)
        study.tell([told(i, p, loss(p)) for i, p in enumerate(params)])
        asked += params
    return asked


def test_same_answers_give_the_same_proposals():
    """Nothing but the seed and what was told decides, in batches as one by one."""
    for batch in (1, 4):
        assert search(batch) == search(batch)
    assert search(1) != search(1, seed=8)


def test_proposals_lie_in_the_space():
    """Whole numbers stay whole, and a choice may be of any kind."""
    for params in search(3):
        assert list(params) == list(SPACE)
        assert 0.01 <= params["eta"] <= 0.3
        assert isinstance(params["max_depth"], int)
        assert params["grow_policy"] in SPACE["grow_policy"].choices


def test_later_proposals_are_better():
    """The estimator goes where losses were small."""
    depths = [abs(p["max_depth"] - 4) for p in search(2, trials=40)]
    assert sum(depths[-15:]) < sum(depths[:15])


def test_trials_that_did_not_finish_are_told_too():
    """Pruned and failed ones, and one that was not asked for, inside of the space or not."""
    study = OptunaTuner().study(SPACE, 1, 10)
    inside = {"eta": 0.1, "max_depth": 6, "grow_policy": [1, 2]}
    study.add(told(0, inside, 0.5))
    study.add(told(1, {**inside, "eta": 3.0}, 0.5))
    study.add(told(1, {**inside, "max_depth": 4.5}, 0.5))  # a champion's, from when the range was of fractions
    asked = study.ask(3)
    study.tell(
        [
            told(2, asked[0], None).model_copy(update={"state": "pruned", "curve": (0.7, 0.6)}),
            told(3, asked[1], None).model_copy(update={"state": "failed"}),
            told(4, asked[2], 0.4),
        ]
    )
    states = [trial.state.name for trial in study._study.trials]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]
    assert len(study.ask(1)) == 1


def test_version_names_the_library():
    """Another version may propose something else, and its search is another one."""
    assert OptunaTuner().version.startswith("optuna ")
