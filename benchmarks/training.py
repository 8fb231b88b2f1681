"""What a fit costs: beside a bare ``xgboost.train`` on the same rows, and when its matrices lie on disk.

``python benchmarks/training.py`` writes a frame of generated orders to an Arrow file, as nights keep it (texts, numbers of which a fifth are
missing), and fits it by turns as a night does and as a bare script would, from the file to the model's bytes; it ends with 1 where a
night's fit takes more than ``--allowed`` times as long. ``--limit-gib 2 --rows 20000000`` fits it in processes of their own instead: in
memory, and on disk in a process that may not have more memory than that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ratchet.adapters.xgb import XgbTrainer
from ratchet.domain.records import sha256
from ratchet.domain.windows import windows
from ratchet.ports import TrainingPlan
from ratchet.tables import FeatureFrame, FeatureQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_GIB = 1 << 30
_STEP = 122_880  # rows of a batch, as DuckDB writes them
_TEXTS = {"shop": 400, "region": 8}
_DAYS = 90
FIRST, LAST = date(2024, 1, 1), date(2024, 3, 30)
DAYS = windows(LAST, days=_DAYS, holdout_days=7, stop_days=7, label_delay_days=0)
QUERY = FeatureQuery(tables={}, sql="", hidden=(), target="returned")
PARAMS = {"max_depth": 8, "eta": 0.1, "subsample": 0.8}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--features", type=int, default=11, help="of which two are texts")
    parser.add_argument("--rounds", type=int, default=30, help="of boosting")
    parser.add_argument("--times", type=int, default=3, help="each is measured, by turns, after a warm-up of each")
    parser.add_argument("--allowed", type=float, default=1.05)
    parser.add_argument("--limit-gib", type=float, help="fit in memory and on disk, there with so much memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)  # this frame, in this process
    parser.add_argument("--memory-gib", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fit:
        print(json.dumps(measured(args)))
        return
    with tempfile.TemporaryDirectory(prefix="ratchet-training-") as folder:
        file = Path(folder) / "frame.arrow"
        began = time.monotonic()
        write(file, args.rows, args.features)
        size = file.stat().st_size / _GIB
        print(
            f"{args.rows:,} rows x {args.features} features, {size:.2f} GiB, written in {time.monotonic() - began:.0f} s",
            flush=True,
        )
        sys.exit(memory(file, args) if args.limit_gib else overhead(file, args))


# The data.


def write(file: Path, rows: int, features: int) -> None:
    """Write a frame, some rows at a time."""
    batches = made(rows, features)
    first = next(batches)
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, first.schema) as writer:
        for batch in itertools.chain([first], batches):
            writer.write_batch(batch)


def made(rows: int, features: int) -> Iterator[pa.RecordBatch]:
    """Yield orders; whether one is returned follows from a few of the columns."""
    for start in range(0, rows, _STEP):
        n, rng = min(_STEP, rows - start), np.random.default_rng(start)
        codes = {name: rng.integers(0, many, n) for name, many in _TEXTS.items()}
        numbers = rng.normal(size=(features - len(_TEXTS), n))
        logit = numbers[0] + 0.5 * numbers[1] * (codes["region"] % 3) + np.sin(codes["shop"])
        day = np.datetime64(FIRST) + (start + np.arange(n)) * _DAYS // rows
        columns: dict[str, Any] = {
            "row_id": np.arange(start, start + n),
            "dt": pa.array(day).cast(pa.date32()),
            "target": pa.array(rng.random(n) < 1 / (1 + np.exp(-logit))),
        }
        for name, many in _TEXTS.items():
            texts = pa.array([f"{name} {i}" for i in range(many)])
            columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes[name], pa.int32()), texts).cast(pa.string())
        for i, values in enumerate(numbers):
            columns[f"n{i}"] = pa.array(values, mask=rng.random(n) < 0.2)
        yield pa.RecordBatch.from_pydict(columns)


def opened(file: Path) -> FeatureFrame:
    """Open the frame as a night does."""
    return FeatureFrame.of_file(file, landed=0, unlabelled=0, dropped=0, columns={})


def plan(args: argparse.Namespace, memory_gib: float) -> TrainingPlan:
    """Return how to fit; no fit stops early, so that all do the same work."""
    return TrainingPlan(
        task="binary",
        params=PARAMS,
        rounds=args.rounds,
        early_stopping_rounds=args.rounds,
        seed=1,
        threads=args.threads,
        device="cpu",
        memory_gib=memory_gib,
    )


# What a night adds to a bare fit.


def overhead(file: Path, args: argparse.Namespace) -> bool:
    """Fit as a night and as a bare script do, by turns, and say whether the night took too long."""
    given = plan(args, args.memory_gib or 8.0)

    def night() -> bytes:
        return XgbTrainer().fit(opened(file), DAYS, given, QUERY).files.booster

    def script() -> bytes:
        return bare(file, args)

    same = sha256(night()) == sha256(script())
    print(f"the same model, byte for byte: {'yes' if same else 'no'}", flush=True)
    found = []
    for n in range(args.times):
        turns: list[Callable[[], bytes]] = [night, script] if n % 2 else [script, night]
        took = {turn: timed(turn) for turn in turns}
        found.append([mine / theirs for mine, theirs in zip(took[night], took[script], strict=True)])
        (wall, work), (bare_wall, bare_work) = took[night], took[script]
        print(
            f"night {wall:6.2f} s ({work:6.2f} s of processors)   bare {bare_wall:6.2f} s ({bare_work:6.2f})   "
            f"ratio {found[-1][0]:.3f} ({found[-1][1]:.3f})",
            flush=True,
        )
    (walls, works), allowed = zip(*found, strict=True), float(args.allowed)
    middle = statistics.median(walls)
    print(
        f"median ratio {middle:.3f}, {min(walls):.3f} to {max(walls):.3f}; of processors' time {statistics.median(works):.3f}; allowed {allowed:.2f}"
    )
    return middle > allowed or not same


def bare(file: Path, args: argparse.Namespace) -> bytes:
    """Fit as a script would that cares for speed: columns to one float matrix, quantile matrices, ``xgboost.train``."""
    import xgboost as xgb

    with pa.memory_map(str(file)) as source:
        table = pa.ipc.open_file(source).read_all()
        names = table.column_names[3:]
        kinds = ["c" if name in _TEXTS else "q" for name in names]
        how = {"feature_names": names, "feature_types": kinds, "enable_categorical": True, "nthread": args.threads}
        met: dict[str, pa.Array] = {}
        matrices: list[Any] = []
        for days in ((FIRST, DAYS.fit.last), (DAYS.stop.first, DAYS.stop.last)):
            first, after = (pc.index(table["dt"], day).as_py() for day in (days[0], days[1] + timedelta(days=1)))
            rows = table.slice(first, after - first)
            x = np.empty((rows.num_rows, len(names)), np.float32)
            for i, name in enumerate(names):
                column = rows[name]
                if name in _TEXTS:
                    if name not in met:
                        met[name] = pa.array(sorted(column.unique().to_pylist()))
                    column = pc.index_in(column, value_set=met[name])
                x[:, i] = column.cast(pa.float32(), safe=False).to_numpy()
            y = rows["target"].cast(pa.float32()).to_numpy()
            matrices.append(xgb.QuantileDMatrix(x, y, ref=matrices[0] if matrices else None, **how))
    params = {**PARAMS, "objective": "binary:logistic", "eval_metric": "logloss", "seed": 1, "nthread": args.threads}
    booster = xgb.train(
        params,
        matrices[0],
        args.rounds,
        evals=[(matrices[1], "stop")],
        early_stopping_rounds=args.rounds,
        verbose_eval=False,
    )
    kept = booster[: booster.best_iteration + 1]
    kept.set_attr(best_iteration=None, best_score=None)
    return bytes(kept.save_raw("ubj"))


def timed(turn: Callable[[], Any]) -> tuple[float, float]:
    """Return how many seconds something takes, by the clock and of all processors."""
    began = time.perf_counter(), time.process_time()
    turn()
    return time.perf_counter() - began[0], time.process_time() - began[1]


# What it needs.


def memory(file: Path, args: argparse.Namespace) -> bool:
    """Fit in memory and on disk, each in a process of its own, and say whether the second needed too much or came to another model."""
    found = {}
    for name, budget, limit in (("on disk", args.limit_gib / 2, args.limit_gib), ("in memory", 1000.0, None)):
        command = [sys.executable, __file__, "--fit", str(file), "--memory-gib", str(budget)]
        command += ["--rounds", str(args.rounds), "--threads", str(args.threads)]
        command += ["--limit-gib", str(limit)] if limit else []
        # Arrow's own pool reserves a gibibyte that it never touches, which a limit on what may be touched would count.
        environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        found[name] = json.loads(done.stdout)
        took = found[name]
        print(
            f"{name:<10} matrices {took['prepare']:6.1f} s   {took['boost'] / args.rounds:6.2f} s a round   "
            f"whole {took['prepare'] + took['boost']:6.1f} s ({took['work']:.1f} s of processors)   peak {took['peak']:.2f} GiB   model {took['model'][:12]}",
            flush=True,
        )
    disk, ram = found["on disk"], found["in memory"]
    cost, work = (disk["prepare"] + disk["boost"]) / (ram["prepare"] + ram["boost"]), disk["work"] / ram["work"]
    same = disk["model"] == ram["model"]
    print(
        f"on disk {cost:.2f} times as long ({work:.2f} of processors' time), {disk['peak']:.2f} GiB of {args.limit_gib:g} allowed, "
        f"in memory {ram['peak']:.2f}; the same model: {'yes' if same else 'no'}"
    )
    return bool(disk["peak"] > args.limit_gib or not same or not disk["on_disk"])


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Fit in this process, which may take no more than the limit, and say what it took."""
    if args.limit_gib:  # all that it writes to, be it resident or not
        resource.setrlimit(resource.RLIMIT_DATA, (int(args.limit_gib * _GIB),) * 2)
    frame, given = opened(args.fit), plan(args, args.memory_gib)
    trainer, began = XgbTrainer(args.fit.parent / "cache"), time.monotonic()
    with trainer.prepare(frame, DAYS, given, QUERY) as prepared:
        middle = time.monotonic()
        fit = trainer.boost(prepared, given)
        on_disk = prepared.on_disk
    return {
        "prepare": middle - began,
        "boost": time.monotonic() - middle,
        "work": time.process_time(),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
        "model": sha256(fit.files.booster),
        "on_disk": on_disk,
    }


if __name__ == "__main__":
    main()
