"""register: one model version per run key, loaded again in a fresh process before anybody relies on it."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from ratchet.domain.night import RegisterResult
from ratchet.errors import ArtifactTampered, ObjectNotFound
from ratchet.ports import Tried
from ratchet.steps import frames
from ratchet.steps.champion import CHALLENGER
from ratchet.steps.recorded import recorded

if TYPE_CHECKING:
    from ratchet.steps.context import Context

_SMOKE_ROWS = 2000  # of the hold-out; a booster that differs anywhere differs there


def register(ctx: Context) -> RegisterResult:
    """Register the challenger and try the registered artifact."""

    def undo(mine: RegisterResult, theirs: RegisterResult) -> None:
        if mine.version and theirs.version and mine.version.version != theirs.version.version:
            ctx.services.registry.delete_version(ctx.pipeline.name, mine.version.version)
            ctx.services.registry.set_alias(ctx.pipeline.name, CHALLENGER, theirs.version.version)

    return recorded(
        ctx, "register", RegisterResult, lambda: _register(ctx), undo=undo, final=lambda made: made.smoke is None
    )


def _register(ctx: Context) -> RegisterResult:
    registry, night, name = ctx.services.registry, ctx.night, ctx.pipeline.name
    assert night.train
    tried = _smoke(ctx)
    smoke = tried.problem
    if night.request.dry_run:
        return RegisterResult(version=None, url=None, smoke=smoke, cost=tried.cost)
    version = registry.version_of(name, ctx.run_key) or registry.register(
        name,
        {
            "run_key": ctx.run_key,
            "artifact_digest": night.train.artifact_digest,
            "seen_through": str(night.train.seen_through),
            "cutoff": str(night.request.cutoff),
            "recipe": night.recipe,
            "recipe_spec": night.recipe_spec,
        },
        night.train.mlflow_run_id,
    )
    registry.set_alias(name, CHALLENGER, version.version)
    ctx.say(f"version {version.version}" + ("" if smoke is None else f"; smoke test: {smoke}"))
    url = registry.version_url(name, version.version)
    return RegisterResult(version=version, url=url, smoke=smoke, cost=tried.cost)


def _smoke(ctx: Context) -> Tried:
    """Load the artifact as MLflow has it in a fresh process; it must give the evaluated predictions, exactly."""
    night, services = ctx.night, ctx.services
    assert night.train
    assert night.evaluate
    try:
        folder, files = services.registry.download(night.train.mlflow_run_id, night.train.artifact_digest, fresh=True)
    except (ArtifactTampered, ObjectNotFound) as exc:
        return Tried(problem=str(exc))
    holdout = ctx.windows.holdout
    rows = frames.of_days(frames.feature_frame(ctx, ctx.pipeline.sql), holdout.first, holdout.last).slice(
        0, _SMOKE_ROWS
    )
    if night.train.evaluated:  # another fit was evaluated; of this one it is known what it gives in this process
        expected = services.trainer.predict(files, rows)
    else:
        kept = io.BytesIO(services.store.get(night.evaluate.predictions))
        evaluated = pq.read_table(kept, columns=["challenger"]).slice(0, _SMOKE_ROWS)
        expected = np.array(evaluated["challenger"].to_pylist(), dtype=np.float64)
    with tempfile.TemporaryDirectory(prefix="ratchet-") as made:
        pq.write_table(rows, Path(made) / "rows.parquet")
        np.save(Path(made) / "expected.npy", expected)
        return services.trainer.smoke(
            folder, night.train.artifact_digest, Path(made) / "rows.parquet", Path(made) / "expected.npy"
        )
