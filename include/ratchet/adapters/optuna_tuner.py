"""Optuna: what a search tries next, by its tree-structured Parzen estimator, in memory; what was tried lies in the object store."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ratchet.domain.tuning import inside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratchet.domain.training_rules import Choices, Range
    from ratchet.domain.tuning import SearchTrial

_MOST_RANDOM = 10  # trials before the estimator has enough to go by


class OptunaTuner:
    """Fulfils ``ports.Tuner``."""

    @property
    def version(self) -> str:
        """See ``ports.Tuner.version``."""
        return f"optuna {version('optuna')}"

    def study(self, space: Mapping[str, Range | Choices], seed: int, trials: int) -> OptunaStudy:
        """See ``ports.Tuner.study``."""
        return OptunaStudy(space, seed, trials)


class OptunaStudy:
    """Fulfils ``ports.Study``: the same questions and answers in the same order give the same proposals.

    Args:
        space: what is searched.
        seed: of everything random.
        trials: how many there will be.
    """

    def __init__(self, space: Mapping[str, Range | Choices], seed: int, trials: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._distributions = {name: _distribution(values) for name, values in space.items()}
        # Those that run count as bad ones, so that a batch does not ask for the same thing over and over.
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=min(_MOST_RANDOM, max(trials // 3, 1)), constant_liar=True
        )
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._asked: list[Any] = []

    def ask(self, count: int) -> Sequence[Mapping[str, Any]]:
        """See ``ports.Study.ask``."""
        self._asked = [self._study.ask(dict(self._distributions)) for _ in range(count)]
        return [self._values(trial.params) for trial in self._asked]

    def tell(self, ended: Sequence[SearchTrial]) -> None:
        """See ``ports.Study.tell``."""
        from optuna.trial import TrialState

        for trial, found in zip(self._asked, ended, strict=True):
            if found.state == "finished":
                self._study.tell(trial, found.score)
            elif found.state == "pruned" and found.curve and math.isfinite(found.curve[-1]):
                trial.report(found.curve[-1], len(found.curve))
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                self._study.tell(trial, state=TrialState.FAIL)
        self._asked = []

    def add(self, ended: SearchTrial) -> None:
        """See ``ports.Study.add``."""
        import optuna

        point = inside(self._space, ended.params)
        if point is None or ended.score is None:
            return
        params = {name: self._known(name, value) for name, value in point.items()}
        self._study.add_trial(
            optuna.create_trial(params=params, distributions=dict(self._distributions), value=ended.score)
        )

    def _values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was drawn; a choice is drawn by its place among them, because Optuna takes no lists."""
        return {
            name: choices[drawn[name]] if (choices := getattr(values, "choices", None)) else drawn[name]
            for name, values in self._space.items()
        }

    def _known(self, name: str, value: Any) -> Any:
        choices = getattr(self._space[name], "choices", None)
        if choices:
            return choices.index(value)
        return value if isinstance(self._space[name].low, int) else float(value)  # type: ignore[union-attr]


def _distribution(values: Range | Choices) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    choices = getattr(values, "choices", None)
    if choices:
        return CategoricalDistribution(range(len(choices)))
    low, high, log = values.low, values.high, values.log  # type: ignore[union-attr]
    return IntDistribution(low, high, log) if isinstance(low, int) else FloatDistribution(low, high, log)
