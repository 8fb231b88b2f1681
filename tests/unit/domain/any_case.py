"""Cases and gates of every kind, by a seed: half of the numbers are such as are met, the others are the worst there are."""

from __future__ import annotations

import random
from math import inf, nan
from typing import Any

from ratchet.domain import gates as g
from ratchet.domain.case import (
    BaselineDay,
    CaseForPromotion,
    Cost,
    DataHealth,
    DayLoss,
    Level,
    MetricValue,
    MustBeat,
    SharedMetric,
)
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.evidence import Trial
from ratchet.domain.statistics import Evidence

NASTY = (nan, inf, -inf, 0.0, -0.0, 1e-300, -1e-300, 1e308, -1e308, 5e-324, -1.0, 1.0, 2.0**53)
HUGE = (0, -1, -(10**30), 10**30, 1, 2)
VALUES = ("JFK", "LGA", "", "=]", "None")
LOSSES = ("brier", "log_loss")
FEATURES = ("x", "z", "place")


class Maker:
    """Makes gates and cases; ``nasty`` is the share of the worst."""

    def __init__(self, seed: int, nasty: float = 0.1) -> None:
        self.random = random.Random(seed)
        self._asked = random.Random(seed)  # of its own, so that it is drawn beside the rest
        self.nasty = nasty if self.random.random() < 0.5 else 0.0

    def bad(self) -> bool:
        """Say whether the next thing is to be one of the worst."""
        return self.random.random() < self.nasty

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number."""
        return self.random.choice(NASTY) if self.bad() else self.random.uniform(low, high)

    def count(self, low: int = 0, high: int = 500) -> int:
        """Return a count."""
        return self.random.choice(HUGE) if self.bad() else self.random.randint(low, high)

    def gate(self, kind: str) -> Any:
        """Return a gate whose numbers no spec would let through."""
        made = dict(self._knobs(kind), kind=kind)
        model = next(m for m in KINDS if m.model_fields["kind"].annotation.__args__ == (kind,))
        defaults = {n: f.default for n, f in model.model_fields.items() if n not in made}
        return model.model_construct(**{**defaults, **made})

    def gates(self, most: int = 5) -> tuple[Any, ...]:
        """Return some gates, in any combination."""
        names = [m.model_fields["kind"].annotation.__args__[0] for m in KINDS]
        return tuple(self.gate(self.random.choice(names)) for _ in range(self.random.randint(0, most)))

    def _knobs(self, kind: str) -> dict[str, Any]:
        r = self.random
        common = {"margin": self.number(0, 0.2), "confidence": r.uniform(0.51, 0.99), "loss": r.choice(LOSSES)}
        days = {"min_days": self.count(2, 6)}
        rows = {"min_rows": self.count(1, 300)}
        values = {"values": tuple(r.sample(VALUES, r.choice((0, 0, 1, 2))))}
        least = r.random() < 0.5
        knobs: dict[str, dict[str, Any]] = {
            "bound": {
                "metric": "auc" if least else "brier",
                "at_least": self.number() if least else None,
                "at_most": None if least else self.number(),
                "slice": r.choice((None, "origin=JFK")),
                **rows,
            },
            "champion": {**common, **days},
            "evidence": {"loss": common["loss"], "margin": common["margin"], "min_days": r.randint(1, 9)},
            "slices": {**common, **days, **rows, **values, "column": "origin"},
            "slice_gap": {
                "column": "origin",
                "metric": "auc",
                "at_most": r.choice((None, self.number())),
                "margin": r.choice((None, self.number())),
                **rows,
                **values,
            },
            "baseline": {
                **common,
                **days,
                "baselines": tuple(r.sample(("average", "recent", "linear"), r.randint(0, 3))),
            },
            "calibration": {"at_least": self.number(0, 1), "at_most": self.number(1, 3), "bias": self.number(), **rows},
            "base_rate": {"at_least": self.number(0, 1), "at_most": self.number(1, 3), "bias": self.number(), **rows},
            "stability": {"at_most": self.number(), **rows},
            "drift": {
                "at_most": self.number(),
                "predictions_at_most": r.choice((None, self.number())),
                "features": tuple(r.sample((*FEATURES, "gone"), r.choice((0, 0, 1)))),
                "ignore": tuple(r.sample(FEATURES, r.randint(0, 2))),
                **rows,
            },
            "cost": {n: r.choice((None, self.number(0, 300))) for n in ("artifact_mib", "latency_ms", "memory_mib")},
            "health": {
                "quarantined_at_most": self.number(),
                "warnings_at_most": r.choice((None, self.count(0, 5))),
                "unlabelled_at_most": self.number(),
                "volume": (self.number(), self.number(1, 3)),
            },
            "age": {"min_days": self.count(1, 9)},
        }
        return knobs[kind]

    def days(self, model: Any) -> tuple[Any, ...]:
        """Return daily losses, where nasty with days that are repeated or out of order."""
        r, side = self.random, "baseline" if model is BaselineDay else "champion"
        shift, told = r.uniform(-0.2, 0.3), []
        for i in range(r.randint(0, 9)):
            loss = r.uniform(0.4, 0.6)
            day = f"2024-01-{r.randint(1, 5) if self.bad() else i + 1:02d}"
            mine = r.choice(NASTY) if self.bad() else loss - shift + r.uniform(-0.05, 0.05)
            told.append(model(day=day, rows=self.count(1, 200), challenger=mine, **{side: loss}))
        if self.bad():
            r.shuffle(told)
        return tuple(told)

    def case(self) -> CaseForPromotion:
        """Return a case of which anything may be missing or wrong."""
        r = self.random
        places = [f"[origin={value}]" for value in VALUES]
        passed = Check(name="smoke test", outcome=Outcome.PASS, reason="it gives the evaluated predictions")
        return CaseForPromotion(
            metrics={
                f"{name}{place}": self.metric()
                for name in ("auc", "brier")
                for place in ("", *places)
                if r.random() < 0.9
            },
            champion=r.random() < 0.8,
            champion_problem="its artifact is gone" if r.random() < 0.05 else None,
            paired={loss: self.days(DayLoss) for loss in LOSSES},
            trial=self.trial(),
            smoke=passed if r.random() < 0.9 else r.choice((None, passed.model_copy(update={"outcome": Outcome.FAIL}))),
            slices={"origin": {value: {loss: self.days(DayLoss) for loss in LOSSES} for value in VALUES[: r.randint(0, 5)]}},
            shared={
                f"auc{place}": SharedMetric(champion=self.number(), challenger=self.number(), rows=self.count(50, 900))
                for place in places
                if r.random() < 0.9
            },
            baselines={name: {loss: self.days(BaselineDay) for loss in LOSSES} for name in ("average", "recent 7", "linear")},
            must_beat=self.must_beat(),
            levels=self.levels(),
            flips={"threshold 0.5, tolerance 0.1": self.metric()} if r.random() < 0.9 else {},
            drift={name: self.metric() for name in FEATURES if r.random() < 0.9},
            prediction_drift=r.choice((None, self.metric())),
            cost=r.choice((None, Cost(artifact_mib=self.number(0, 9), latency_ms=self.number(0, 99), memory_mib=self.number(0, 400)))),
            health=r.choice((None, self.health())),
            served_days=r.choice((None, self.count(0, 20))),
        )  # fmt: skip

    def must_beat(self) -> MustBeat | None:
        """Return which baselines must be beaten, among them one that is not there."""
        r = self._asked
        names = tuple(r.sample(("average", "linear", "gone"), r.randint(1, 2)))
        return r.choice((None, MustBeat(loss=r.choice(LOSSES), baselines=names)))

    def metric(self) -> MetricValue:
        """Return a number about a model."""
        return MetricValue(value=None if self.bad() else self.number(), rows=self.count(50, 900))

    def levels(self) -> dict[str, Level]:
        """Return how high predictions and labels are."""
        names = self.random.choice(((), ("",), ("a", "b", "c")))
        return {
            name: Level(
                predicted=self.number(),
                observed=self.number(),
                training=self.number(),
                spread=self.number(),
                rows=self.count(50, 900),
                events=self.count(0, 300),
                continuous=self.random.random() < 0.3,
                quantile=self.random.choice((None, None, 0.5, self.number())),
                below=None if self.bad() else self.number(),
            )
            for name in names
        }

    def health(self) -> DataHealth:
        """Return what the night's data was like."""
        return DataHealth(
            partitions=self.count(1, 90),
            quarantined=self.count(0, 9),
            warnings=self.count(0, 9),
            rows=self.count(100, 10_000),
            unlabelled=self.count(0, 200),
            newest_rows=self.count(50, 200),
            usual_rows=self.number(50, 200),
        )

    def trial(self) -> Trial | None:
        """Return a trial of a few days, or of many that prove something."""
        shift = self.random.uniform(-0.02, 0.02)
        told = (
            Evidence(
                day=f"2024-{i // 28 + 1:02d}-{i % 28 + 1:02d}",
                rows=100,
                champion=1,
                challenger=2,
                difference=self.number(shift - 0.01, shift + 0.01),
                scale=self.number(0.005, 0.02),
            )
            for i in range(self.random.choice((0, 3, 40)))
        )
        return self.random.choice((None, Trial(lane="recipe", evidence={"log_loss": tuple(told)})))


KINDS = (
    g.BoundGate,
    g.ChampionGate,
    g.EvidenceGate,
    g.SlicesGate,
    g.SliceGapGate,
    g.BaselineGate,
    g.CalibrationGate,
    g.BaseRateGate,
    g.StabilityGate,
    g.DriftGate,
    g.CostGate,
    g.HealthGate,
    g.AgeGate,
)
