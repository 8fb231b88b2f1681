"""The rows of a frame as XGBoost learns from them: matrices of quantiles, in memory or on disk, made batch by batch.

The model's bytes depend neither on how many rows a batch has nor on where the matrix lies.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ratchet.adapters.matrix import ROWS, described, labels, matrix
from ratchet.errors import DataRejected, Problem, SpecInvalid
from ratchet.local_cache import full_disk_rejects, lacks_room
from ratchet.tables import lists_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from ratchet.domain.models import ModelSchema
    from ratchet.domain.windows import Span
    from ratchet.ports import TrainingPlan
    from ratchet.tables import FeatureFrame, Floats

    Weigh = Callable[[pa.Table, Floats], Floats]  # rows and their labels → how much each counts

_CELLS = 16_000_000  # of a batch: 64 MB as float32, so that wide tables take no more than long ones
_BINNED = 6  # bytes of a cell in a matrix of quantiles, its copy by columns included; measured, of rows with gaps
_ROW = 64  # bytes of a row beside them: where it starts, label, weight, and in which leaf it is
_OUTPUT = 24  # bytes of a row for each number that is predicted of it: gradient, margin, and room to add them up
_FLOAT, _LABEL = 4, 8
_SPARE = 64 << 20  # bytes that are left free on the disk
_LOCK = "lock"


def rows_at_a_time(features: int) -> int:
    """Return how many rows of so many features are turned into numbers at a time."""
    return max(1, min(ROWS, _CELLS // max(features, 1)))


def in_memory(rows: int, features: int, outputs: int) -> int:
    """Return about how many bytes a fit takes whose matrices lie in memory."""
    return rows * (features * _BINNED + _ROW + outputs * _OUTPUT)


def as_numbers(rows: int, features: int) -> int:
    """Return how many bytes rows take as the numbers of which a matrix is made."""
    return rows * (features * _FLOAT + 2 * _LABEL)


def on_disk(rows: int, features: int) -> int:
    """Return about how many bytes of disk a matrix takes that does not lie in memory."""
    return rows * (features * _BINNED + _ROW // 4)


def told(schema: ModelSchema, table: pa.Table, weigh: Weigh | None = None) -> dict[str, Any]:
    """Return what XGBoost is told of some rows: ``data``, ``label``, ``weight`` where they count differently, of a ranking ``qid``.

    A row of a class that training never met is left out: nothing can be learnt from it. Of no such row nothing is returned.
    """
    y, x, lists = labels(schema, table), matrix(schema, table), lists_in(table)
    found = {"data": x, "label": y, **({"weight": weigh(table, y)} if weigh else {})}
    if schema.classes and (y < 0).any():
        found = {name: values[y >= 0] for name, values in found.items()}
    if not len(found["label"]):
        return {}
    if lists is None:
        return found
    if weigh:  # XGBoost weighs lists; their rows are of one day, and so of one weight
        found["weight"] = found["weight"][np.flatnonzero(np.diff(lists, prepend=-1))]
    return {**found, "qid": lists}


class Rows:
    """Rows of some days as numbers, batch by batch, as often as they are asked for.

    Args:
        schema: how rows become numbers.
        frame: holds them.
        days: which.
        weigh: says how much each counts; without it all count the same.
        keep: hold the numbers in memory once they are made.
    """

    def __init__(
        self, schema: ModelSchema, frame: FeatureFrame, days: Span, weigh: Weigh | None = None, *, keep: bool = False
    ) -> None:
        self.schema, self.frame, self.days, self.weigh, self.keep = schema, frame, days, weigh, keep
        self._kept: list[Mapping[str, Any]] | None = None

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield what XGBoost is told of each batch."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Mapping[str, Any]] = []
        for table in self.frame.batches(self.days.first, self.days.last, rows_at_a_time(len(self.schema.features))):
            if found := told(self.schema, table, self.weigh):
                if self.keep:
                    kept.append(found)
                yield found
        if self.keep:
            self._kept = kept

    def forget(self) -> None:
        """Give back the numbers that are held."""
        self._kept, self.keep = None, False


@contextmanager
def quantiles(rows: Rows, plan: TrainingPlan, like: Any = None, folder: Path | None = None) -> Iterator[Any]:
    """Make a matrix of rows as XGBoost learns from them, and free it in the end, whoever still names it: its pages go with it.

    Args:
        rows: to learn from, or to watch.
        plan: how many threads and bins.
        like: the matrix whose bins are used, where these rows are watched.
        folder: where the matrix is put, page by page; without one it lies in memory.

    Raises:
        DataRejected: ``resource``, when memory or disk runs out. SpecInvalid: XGBoost refuses a parameter.
    """
    import xgboost as xgb

    names = {key: value for key, value in described(rows.schema).items() if key != "enable_categorical"}

    class Batches(xgb.DataIter):  # type: ignore[misc]  # XGBoost is untyped
        """XGBoost goes over the rows several times."""

        def __init__(self) -> None:
            self._left: Iterator[Mapping[str, Any]] = iter(())
            super().__init__(cache_prefix=str(folder / "matrix") if folder else None, release_data=True)

        def reset(self) -> None:
            self._left = iter(rows)

        def next(self, input_data: Any) -> bool:
            batch = next(self._left, None)
            if batch is None:
                return False
            if folder:
                _refuse_full(folder, on_disk(*batch["data"].shape))
            input_data(**batch, **names)
            return True

    kind = xgb.ExtMemQuantileDMatrix if folder else xgb.QuantileDMatrix
    how = {"ref": like, "nthread": plan.threads, "max_bin": plan.params.get("max_bin"), "enable_categorical": True}
    with refusals():
        made = kind(Batches(), **how)
    try:
        yield made
    finally:
        made.__del__()


@contextmanager
def refusals() -> Iterator[None]:
    """Say in words what XGBoost refuses or lacks.

    Raises:
        DataRejected: ``resource``, when memory or disk runs out. SpecInvalid: it refuses a parameter.
    """
    from xgboost.core import XGBoostError

    try:
        yield
    except MemoryError as exc:
        raise _out_of_memory() from exc
    except (XGBoostError, ValueError, TypeError) as exc:
        text = str(exc)
        if "bad_alloc" in text or "bad allocation" in text:
            raise _out_of_memory() from exc
        raise SpecInvalid(
            [Problem("spec", "training.params", f"XGBoost refused them: {_first_line(text, exc)}")]
        ) from exc


def _out_of_memory() -> DataRejected:
    return DataRejected(
        "resource",
        "the fit ran out of memory. Lower training.memory_gib (or RATCHET_MEMORY_GIB), so that its matrices lie on disk, or give the process more",
    )


def _first_line(text: str, exc: Exception) -> str:
    """Return what XGBoost says without the clock, and without the place in its source: a night says the same whenever it runs."""
    said = re.sub(r"^\[\d\d:\d\d:\d\d\] \S+:\d+: (Check failed: )?", "", text)
    return next((line for line in said.splitlines() if line.strip()), type(exc).__name__)[:300]


@contextmanager
def aside(cache: Path, need: int) -> Iterator[Path]:
    """Name a folder for matrices, which does not stay.

    Args:
        cache: the local cache.
        need: about how many bytes will be put there.

    Raises:
        DataRejected: ``resource``, when the disk has not so many left.
    """
    home = cache / "matrices"
    with full_disk_rejects(cache, "the matrices"):
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_full(home, need)
        with _alone(home):
            folder = Path(tempfile.mkdtemp(dir=home))
            lock = (folder / _LOCK).open("wb")
            fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _refuse_full(folder: Path, need: int) -> None:
    """Refuse a disk that is full before XGBoost meets it: there the whole process would be aborted.

    Raises:
        DataRejected: ``resource``.
    """
    if shutil.disk_usage(folder).free < need + _SPARE:
        cache = next(path for path in folder.parents if path.name != "matrices")
        raise DataRejected(
            "resource",
            f"matrices of about {need:,} bytes are still to be kept, and {_SPARE >> 20} MiB to be left free; {lacks_room(cache)}",
        )


def sweep(cache: Path) -> None:
    """Remove the matrices of processes that were killed: a lock goes with its process."""
    home = cache / "matrices"
    if not home.is_dir():
        return
    with _alone(home):
        for folder in home.iterdir():
            if not folder.is_dir():
                continue
            try:
                with (folder / _LOCK).open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                continue  # a process is at it
            except FileNotFoundError:  # killed before it could lock anything
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keep folders from being removed before they are locked."""
    with (home / _LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
