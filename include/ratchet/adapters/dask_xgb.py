"""XGBoost on a Dask cluster: the same plan, rows and files as in this process, fitted by ``xgboost.dask`` on many workers.

Rows are coded here as ever, batch by batch, and each batch is shared out among the workers, straight into their memory: they need no access
to the object store, and the whole frame is never in this process. What dies with a worker is sent again to those that are left, and the fit
begins anew: XGBoost cannot go on with fewer than it began with.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.adapters.batches import Rows
from ratchet.adapters.dask_cluster import Cluster, WorkersLost, attending
from ratchet.adapters.matrix import described
from ratchet.adapters.weights import weights
from ratchet.adapters.xgb import XgbTrainer, made_of, parameters
from ratchet.errors import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratchet.domain.models import ModelSchema
    from ratchet.domain.windows import Span
    from ratchet.ports import AfterRound, Fit, Prepared, TrainingPlan
    from ratchet.tables import FeatureFrame

_ATTEMPTS = 5  # so often may workers be lost
_TRIED = 512  # rows on which parameters are tried here
_GIVEN_UP = {"retry": 3, "timeout": 600, "tracker_timeout": 300}  # seconds until workers give one another up


class EngineTrainer(XgbTrainer):
    """Fulfils ``ports.Trainer``: in this process, or where the plan says so, on a Dask cluster.

    Args:
        dask: address of its scheduler, where there is one.
        patience: seconds until somebody who gives no answer is taken for dead.
        local: of ``XgbTrainer``.
    """

    def __init__(self, dask: str | None = None, patience: float = 60.0, **local: Any) -> None:
        super().__init__(**local)
        self._dask, self._patience = dask, patience

    @contextmanager
    def _matrices(
        self, schema: ModelSchema, frame: FeatureFrame, days: Span, plan: TrainingPlan, watched: Span | None = None
    ) -> Iterator[tuple[Any, Any, bool]]:
        """Make the matrices there: they are placed when they are first fitted to, and again where workers were lost."""
        if plan.engine != "dask":
            with super()._matrices(schema, frame, days, plan, watched) as made:
                yield made
            return
        if not self._dask:
            expected = "the address of a Dask scheduler, such as tcp://10.0.0.5:8786, because training.engine is dask"
            raise SettingsInvalid("RATCHET_DASK", "", expected)
        # The connection's thread, which would import them when it needs them, hears no answers meanwhile and takes that for silence.
        import dask.array  # noqa: F401
        import xgboost.dask  # noqa: F401  brings Dask's client

        rows = [Rows(schema, frame, days, weights(schema, frame, days, plan))]
        rows += [Rows(schema, frame, watched)] if watched else []
        with Cluster(self._dask, self._patience).connected() as cluster:
            yield _There(cluster, rows), watched, True

    def boost(self, prepared: Prepared, plan: TrainingPlan, after: AfterRound | None = None) -> Fit:
        """See ``ports.Trainer.boost``; on a cluster ``after`` is asked once the fit is over, and its rounds count up to there."""
        there = prepared.train
        if not isinstance(there, _There):
            return super().boost(prepared, plan, after)
        self._try(prepared, plan)
        asked = parameters(plan, prepared.schema)
        del asked["nthread"]  # each worker's own
        made = there.cluster.do(there.fit(asked, plan))
        booster, curves = made["booster"], made["history"].get("stop", {})
        last = booster.num_boosted_rounds() - 1
        best = last if prepared.watch is None else int(booster.best_iteration)
        losses = list(curves.values())[-1] if curves else []
        ended = next((i for i, loss in enumerate(losses) if after and after(i, loss)), last)
        shown = {name: values[: ended + 1] for name, values in curves.items()}
        fit = made_of(booster, min(best, ended), prepared, shown)
        return fit.model_copy(update={"made_on": there.told(plan)})

    def _try(self, prepared: Prepared, plan: TrainingPlan) -> None:
        """Fit one round to a few rows here, so that parameters are refused as ever, before anything is sent.

        Raises:
            SpecInvalid: XGBoost does not take them, or does not know them.
        """
        rows = prepared.train.rows[0]
        spread = rows.frame.spread(rows.days.first, rows.days.last, _TRIED)
        few = rows.frame.model_copy(update={"table": spread, "mapped": None})
        plain = {"class_weights": None, "half_life_days": None}  # rows as few need not be of all classes
        here = plan.model_copy(update={"rounds": 1, "device": "cpu", "engine": "local", **plain})
        with super()._matrices(rows.schema, few, rows.days, here, rows.days) as (train, watch, _):
            super().boost(replace(prepared, train=train, watch=watch), here)


@dataclass
class _Placed:
    """Rows in the workers' memory."""

    workers: Mapping[str, int]  # address → threads
    matrices: Sequence[Any]  # to fit, to watch
    parts: int
    max_bin: int | None


class _There:
    """Rows of a frame, on a cluster."""

    def __init__(self, cluster: Cluster, rows: Sequence[Rows]) -> None:
        self.cluster, self.rows = cluster, tuple(rows)
        self._placed: _Placed | None = None
        self._one = asyncio.Lock()  # fit at a time

    def told(self, plan: TrainingPlan) -> dict[str, str]:
        """Say what, beside the plan, the bytes of the last fit depend on."""
        assert self._placed
        threads = ", ".join(str(n) for n in self._placed.workers.values())
        return {
            "engine": "dask",
            "workers": str(len(self._placed.workers)),
            "threads": threads,
            "parts": str(self._placed.parts),
            "device": plan.device,
        }

    async def fit(self, asked: Mapping[str, Any], plan: TrainingPlan) -> dict[str, Any]:
        """Fit on the workers that are there; when some are lost, anew on those that are left.

        Raises:
            ServiceError: nobody is left, or too many were lost; or the cluster does not do what it is asked.
        """
        async with self._one:
            gone: list[str] = []
            for _ in range(_ATTEMPTS):
                try:
                    return await self._fit(asked, plan)
                except WorkersLost as lost:
                    self._placed = None
                    gone += lost.gone
            words = f"workers were lost {_ATTEMPTS} times: {', '.join(gone)}. Look at their logs; most often memory is short"
            raise self.cluster.failure("fitting", words)

    async def _fit(self, asked: Mapping[str, Any], plan: TrainingPlan) -> dict[str, Any]:
        placed = self._placed
        if placed is None or placed.max_bin != plan.params.get("max_bin"):
            placed = self._placed = None  # what lies there is forgotten first
            workers = await self.cluster.workers()
            placed = await self.cluster.guarded(list(workers), self._place(workers, plan.params.get("max_bin")))
            self._placed = placed
        await self.cluster.unlock(list(placed.workers))
        made: dict[str, Any] = await self.cluster.guarded(list(placed.workers), self._train(placed, asked, plan))
        return made

    async def _train(self, placed: _Placed, asked: Mapping[str, Any], plan: TrainingPlan) -> Any:
        import xgboost as xgb
        from xgboost import dask as dxgb

        train, *watch = placed.matrices
        return await dxgb.train(
            self.cluster.client,
            dict(asked),
            train,
            plan.rounds,
            evals=[(matrix, "stop") for matrix in watch] or None,
            early_stopping_rounds=plan.early_stopping_rounds if watch else None,
            verbose_eval=False,
            callbacks=[attending(plan.device)],
            coll_cfg=xgb.collective.Config(**_GIVEN_UP),
        )

    async def _place(self, workers: Mapping[str, int], max_bin: int | None) -> _Placed:
        from xgboost import dask as dxgb

        kinds = described(self.rows[0].schema)
        matrices: list[Any] = []
        parts = 0
        for rows in self.rows:
            columns = await self._scattered(rows, list(workers))
            parts += columns["data"].npartitions
            like = {"ref": matrices[0]} if matrices else {}
            matrices.append(
                await dxgb.DaskQuantileDMatrix(self.cluster.client, **columns, **kinds, **like, max_bin=max_bin)
            )
        return _Placed(workers, matrices, parts, max_bin)

    async def _scattered(self, rows: Rows, workers: Sequence[str]) -> dict[str, Any]:
        """Share out the rows of each batch among all workers, and return them as Dask's arrays."""
        import dask.array as da
        from dask import delayed

        pieces: dict[str, list[Any]] = {}
        batches = _numbered(rows)
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            for worker, share in zip(workers, _shares(batch, len(workers)), strict=True):
                if share.start == share.stop:
                    continue
                piece = {name: np.ascontiguousarray(values[share]) for name, values in batch.items()}
                there = await self.cluster.client.scatter(
                    list(piece.values()), workers=[worker], direct=True, hash=False
                )
                for (name, values), kept in zip(piece.items(), there, strict=True):
                    array = da.from_delayed(delayed(kept), values.shape, values.dtype)
                    pieces.setdefault(name, []).append(array)
        return {name: da.concatenate(arrays) for name, arrays in pieces.items()}


def _numbered(rows: Rows) -> Iterator[dict[str, Any]]:
    """Yield the rows' numbers batch by batch; lists are numbered over all batches."""
    lists = 0
    for batch in rows:
        given = dict(batch)
        if "qid" in given:
            given["qid"] = given["qid"].astype(np.int64) + lists
            lists = int(given["qid"][-1]) + 1
        yield given


def _shares(batch: Mapping[str, Any], workers: int) -> list[slice]:
    """Cut a batch into as many runs of rows as there are workers, about equally long; a list is never cut."""
    rows = len(batch["label"])
    cuts = [rows * i // workers for i in range(workers + 1)]
    if "qid" in batch:
        cuts = [int(np.searchsorted(batch["qid"], batch["qid"][cut])) if 0 < cut < rows else cut for cut in cuts]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]
