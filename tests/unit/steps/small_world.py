"""A small world in which whole nights run in process: real DuckDB and XGBoost, everything else in memory."""

from __future__ import annotations

import io
import os
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fakes import MemoryRegistry, MemoryStore, PlainReporter, SmallValidator, Tripwire
from ratchet.adapters.duck import DuckEngine
from ratchet.adapters.ledger import ObjectLedger
from ratchet.adapters.optuna_tuner import OptunaTuner
from ratchet.adapters.xgb import XgbTrainer, predict
from ratchet.domain.case import Cost
from ratchet.domain.models import ModelSchema, files_digest
from ratchet.domain.night import STEPS, Night, NightRequest
from ratchet.home import parse_spec
from ratchet.ports import Tried
from ratchet.spec import Pipeline
from ratchet.steps.context import Services
from ratchet.steps.night import begin, run_night, run_step

if TYPE_CHECKING:
    from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning thread starves the other core

FIRST = date(2024, 3, 1)
DAYS, ROWS = 8, 40
NIGHT = FIRST + timedelta(days=DAYS - 1)  # the first cutoff with a whole window

SPEC = f"""
name: small
description: Which rows are hot?
owner: {{name: tests}}
source:
  uri: s3://lake/rows/
  format: parquet
  unknown_at_prediction: [y]
window: {{days: {DAYS}, holdout_days: 3, stop_days: 2, min_partitions: 4, min_rows: 50, max_age_days: 1}}
validation: {{suite: small, max_quarantined: 0.3}}
features: small
target: {{task: binary, sql: y}}
training: {{rounds: 6, early_stopping_rounds: 3, threads: 1, params: {{max_depth: 2, eta: 0.5}}}}
evaluation: {{slices: [place], baselines: [average]}}  # six rounds of so few rows are not always ahead of a regression
gates:
  - {{kind: bound, metric: auc, at_least: 0.6, min_rows: 50}}
  - {{kind: champion, loss: log_loss, margin: 0.1, confidence: 0.6, min_days: 2}}
"""
SUITE = {
    "name": "small",
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "min_value": -9, "max_value": 9}}
    ],
}
SQL = "SELECT row_id, x, z, place FROM rows"


class QuickTrainer(XgbTrainer):
    """The real trainer, which tries the registered artifact in this process: a fresh one costs a second."""

    def smoke(self, folder: Path, digest: str, rows: Path, expected: Path | None) -> Tried:
        """See ``ports.Trainer.smoke``."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        if files_digest(files) != digest:
            return Tried(problem="the artifact's sha256 is another")
        schema = ModelSchema.model_validate_json(files["schema.json"])
        scores = predict(files["booster.ubj"], schema, pq.read_table(rows))
        if expected is not None and not (scores == np.load(expected)).all():
            return Tried(problem="predictions differ")
        return Tried(cost=Cost(artifact_mib=len(files["booster.ubj"]) / 2**20, latency_ms=1.5, memory_mib=150.0))


def partition(day: date, rows: int = ROWS, **columns: Any) -> bytes:
    """Return a day's rows as Parquet; ``columns`` take the place of what the seed gives."""
    random = np.random.default_rng(day.toordinal())
    x, z = random.normal(size=rows), random.normal(size=rows)
    given = {
        "id": np.arange(rows) + day.toordinal() * 1000,
        "x": x,
        "z": z,
        "place": random.choice(["north", "south"], rows),
        "y": (x + 0.5 * random.normal(size=rows) > 0),
    }
    out = io.BytesIO()
    pq.write_table(pa.table({**given, **columns}), out)
    return out.getvalue()


class World:
    """Storage, registry and a pipeline; land days, run nights, break things."""

    def __init__(
        self, folder: Path, spec: str = SPEC, suite: dict[str, Any] = SUITE, *, versioned: bool = True
    ) -> None:
        self.folder = folder
        self.store = MemoryStore(folder / "objects", versioned=versioned)
        self.registry = MemoryRegistry(folder / "models")
        self.validator = SmallValidator()
        self.spec, self.suite = spec, suite
        self.caches = folder
        self.services = self.machine("cache")

    def machine(self, cache: str, trainer: Any = None) -> Services:
        """Return the services as another machine has them: the same stores, a cache of its own."""
        return Services(
            store=self.store,
            engine=DuckEngine(self.caches / cache, threads=1),
            validator=self.validator,
            trainer=trainer or QuickTrainer(),
            registry=self.registry,
            ledger=ObjectLedger(self.store),
            reporter=PlainReporter(),
            cache=self.caches / cache,
            tuner=OptunaTuner(),
        )

    def pipeline(self, **overrides: Any) -> Pipeline:
        """Return the pipeline, overridden by dotted keys with __ for a dot."""
        given = {key.replace("__", "."): value for key, value in overrides.items()}
        return Pipeline(spec=parse_spec(self.spec, "small.yaml", given), suite=self.suite, sql=SQL)

    def gated(self, *gates: dict[str, Any]) -> None:
        """Change the pipeline's gates."""
        self.spec = yaml.safe_dump({**yaml.safe_load(self.spec), "gates": list(gates)})

    def uri(self, day: date) -> str:
        """Return the address of a day's object."""
        return f"s3://lake/rows/dt={day}/part.parquet"

    def land(self, day: date, data: bytes | None = None, **columns: Any) -> None:
        """Land, or replace, a day."""
        self.store.put(self.uri(day), partition(day, **columns) if data is None else data)

    def land_all(self, through: date = NIGHT, **columns: Any) -> World:
        """Land every day from the first."""
        for i in range((through - FIRST).days + 1):
            self.land(FIRST + timedelta(days=i), **columns)
        return self

    def night(
        self, cutoff: date = NIGHT, services: Services | None = None, pipeline: Pipeline | None = None, **asked: Any
    ) -> Night:
        """Run a whole night; what was not foreseen is raised."""
        request = NightRequest(pipeline="small", cutoff=cutoff, actor="tests", **asked)
        night, error = run_night(request, pipeline or self.pipeline(), services or self.services)
        if error:
            raise error
        return night

    def until(
        self, step: str, cutoff: date = NIGHT, services: Services | None = None, pipeline: Pipeline | None = None
    ) -> Night:
        """Run a night's steps before ``step``, one by one, as an orchestrator does."""
        night = begin(NightRequest(pipeline="small", cutoff=cutoff, actor="tests"), pipeline or self.pipeline())
        for name in STEPS[: STEPS.index(step)]:
            night = self.step(name, night, services, pipeline)
        return night

    def step(
        self, step: str, night: Night, services: Services | None = None, pipeline: Pipeline | None = None
    ) -> Night:
        """Run one step on a night that has been stored and read back, as between two machines."""
        stored = Night.model_validate_json(night.model_dump_json())
        return run_step(step, stored, pipeline or self.pipeline(), services or self.services)

    def copy(self, folder: Path) -> World:
        """Return a world with the same records, as they are now; what its machines have cached is shared."""
        made = World(folder, self.spec, self.suite)
        made.store.take(self.store)
        made.registry.take(self.registry)
        made.caches = self.caches
        made.services = made.machine("cache")
        return made

    def arm(self, tripwire: Tripwire) -> None:
        """Let the process die at a write, wherever it goes."""
        self.store.tripwire = self.registry.tripwire = tripwire

    @property
    def entries(self) -> tuple[Any, ...]:
        """The ledger."""
        return self.services.ledger.entries("small")

    @property
    def champion(self) -> int | None:
        """The version that the alias names."""
        return self.registry.alias("small", "champion")

    def state(self) -> dict[str, Any]:
        """Return what a refused night must leave as it was."""
        return {
            "ledger": self.store.contents("ledger/"),
            "champion": self.champion,
            "challenger": self.registry.alias("small", "challenger"),
            "versions": tuple(self.registry.versions("small")),
            "evidence": self.store.contents("evidence/"),
            "pins": self.store.contents("pins/"),
            "runs": self.store.contents("runs/"),
        }
