"""What a night of many segments needs: seconds and memory by fifty segments, on real services.

``python benchmarks/segments.py --segments 500`` starts services of its own on free ports, lands generated sales of that many shops, runs the
night of all rows and then the night of every shop in this one process, as ``ratchet run`` does, and prints after every fifty what they
took and what this process holds. With ``--nights 2`` each shop has a champion to meet in the second. With ``--airflow`` the nights are runs of a
real Airflow, a mapped task for each shop, and what is printed is what all its processes and services hold together. It ends with 1 where a
night went wrong or the memory of the last line is more than ``--grow-mib`` above that of the first.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.airflow_api import AirflowApi
from ratchet.domain.night import NightRequest
from ratchet.home import load_pipeline
from ratchet.stack import embedded
from ratchet.steps.context import Context
from ratchet.steps.night import run_night
from ratchet.steps.segments import conclude, plan, run_segment
from ratchet.wiring import object_store, services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratchet.steps.context import Services

LAST, DAYS = date(2024, 6, 30), 35
MIB = 1 << 20
SPEC = """
name: sales
description: Does a visit end with a sale?
owner: {name: benchmarks}
schedule: null
source: {uri: "s3://lake/sales/", format: parquet, partition: {by: path, pattern: "day={date}/"}, unknown_at_prediction: [sold]}
window: {days: 35, holdout_days: 7, stop_days: 5}
validation: {suite: sales}
features: sales
target: {task: binary, sql: sold}
training: {rounds: 60, early_stopping_rounds: 10, params: {max_depth: 4, eta: 0.2}}
segments: {by: shop, min_rows: 100}
evaluation: {baselines: [average]}  # what a night costs is measured; whether a booster of 1,000 rows beats a regression is not
gates:
  - {kind: bound, metric: auc, at_least: 0.5}
  - {kind: champion, loss: log_loss, margin: 0.01}
"""
SUITE = (
    '{"name": "sales", "expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "sold"}}]}'
)
SQL = "SELECT row_id, shop, price, weight, hour, regular FROM rows"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segments", type=int, default=500)
    parser.add_argument("--rows", type=int, default=30, help="of a segment and day, on average")
    parser.add_argument("--every", type=int, default=50, help="segments between two lines")
    parser.add_argument("--nights", type=int, default=1)
    parser.add_argument("--airflow", action="store_true", help="run the nights in a real Airflow")
    parser.add_argument("--grow-mib", type=float, help="default: 100 in one process, 1000 over all of Airflow's")
    parser.add_argument(
        "--profile", action="store_true", help="say in which functions the segments' nights spent their time"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ratchet-segments-") as folder:
        home = Path(folder) / "home"
        files = {"pipelines/sales.yaml": SPEC, "suites/sales.json": SUITE, "features/sales.sql": SQL}
        for name, text in files.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)
        for_airflow: dict[str, Any] = {}
        if args.airflow:
            for_airflow = {"services": ("s3", "mlflow", "airflow"), "home": home, "dags": dags(Path(folder) / "dags")}
        with embedded(Path(folder) / "state", **for_airflow) as stack:
            os.environ.update(stack.environment, RATCHET_CACHE=str(Path(folder) / "cache"), PYTHONWARNINGS="ignore")
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            land(args)
            cutoffs = [LAST + timedelta(days=number) for number in range(args.nights)]
            if args.airflow:
                bad = in_airflow(stack.environment, cutoffs, args)
            else:
                found = services()
                bad = max(night(found, home, cutoff, args) for cutoff in cutoffs)
    sys.stdout.flush()
    os._exit(int(bad))  # as `ratchet.cli.entry` ends, for the same reason


def land(args: argparse.Namespace) -> None:
    """Put the days that all nights need into the lake; some shops sell much more than others."""
    store = object_store()
    store.ensure_bucket("lake")
    for back in range(DAYS + args.nights - 1):
        day = LAST + timedelta(days=args.nights - 1 - back)
        rng, rows = np.random.default_rng(day.toordinal()), args.segments * args.rows
        shop = (args.segments * rng.random(rows) ** 1.3).astype(int)
        price, weight, hour = rng.gamma(2.0, 30.0, rows), rng.gamma(3.0, 0.7, rows), rng.integers(8, 22, rows)
        logit = (
            2 * np.sin(shop + price / 15) + 0.5 * (weight - 2) + 0.1 * (hour - 14)
        )  # each shop has prices of its own that sell
        columns = {
            "shop": np.char.add("Shop ", np.char.zfill(shop.astype("U4"), 4)),
            "price": price,
            "weight": weight,
            "hour": hour,
            "regular": rng.random(rows) < 0.3,
            "sold": rng.random(rows) < 1 / (1 + np.exp(-logit)),
        }
        out = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), out)
        store.put(
            f"s3://lake/sales/day={day}/sales.parquet", out.getvalue().to_pybytes(), "application/vnd.apache.parquet"
        )


def night(found: Services, home: Path, cutoff: date, args: argparse.Namespace) -> bool:
    """Run the night of all rows and those of all segments; say whether anything went wrong."""
    pipeline, began = load_pipeline("sales", home), time.monotonic()
    whole, error = run_night(NightRequest(pipeline="sales", cutoff=cutoff, actor="benchmark"), pipeline, found)
    if error:
        raise error
    print(f"night of {cutoff}: all rows {whole.outcome} in {time.monotonic() - began:.1f} s", flush=True)
    began = time.monotonic()
    planned = plan(Context(pipeline, whole, found))
    print(f"{len(planned.fitted)} segments of {planned.rows:,} rows, listed in {time.monotonic() - began:.1f} s")
    print(f"{'segments':>10} {'s each':>8} {'CPU s':>8} {'RSS MiB':>8}")
    profile, nights, held = cProfile.Profile(), [], []
    first = time.monotonic()
    for start in range(0, len(planned.fitted), args.every):
        some = planned.fitted[start : start + args.every]
        began, spent = time.monotonic(), time.process_time()
        if args.profile:
            profile.enable()
        nights += [run_segment(whole, pipeline, segment, found)[0] for segment in some]
        profile.disable()
        each, cpu = (time.monotonic() - began) / len(some), (time.process_time() - spent) / len(some)
        held.append(psutil.Process().memory_info().rss / MIB)
        print(f"{start + len(some):>10} {each:>8.2f} {cpu:>8.2f} {held[-1]:>8.0f}", flush=True)
    made = conclude(Context(pipeline, whole, found), planned, nights)
    took, grown = time.monotonic() - first, held[-1] - held[0]
    told = f"{took:.0f} s, {took / max(len(nights), 1):.2f} s each (median {median(n.seconds for n in nights):.2f})"
    print(
        f"{len(nights)} nights of segments in {told}; memory {grown:+.0f} MiB from the first {args.every} to the last"
    )
    print(made.words[:500])
    if args.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
    return bool(made.failed) or grown > (args.grow_mib or 100)


def dags(folder: Path) -> Path:
    """Make the folder of DAGs, with the one stub that the pipeline needs."""
    folder.mkdir()
    stub = '"""Airflow DAG: retrain sales."""\n\nfrom ratchet.orchestration import training_dag\n\ndag = training_dag("sales")\n'
    (folder / "sales.py").write_text(stub)
    return folder


def in_airflow(environment: Mapping[str, str], cutoffs: list[date], args: argparse.Namespace) -> bool:
    """Trigger one run after the other, and print once a minute how many mapped tasks have ended and what all processes hold."""
    api = AirflowApi(*(environment[f"RATCHET_AIRFLOW_{name}"] for name in ("URL", "USER", "PASSWORD")))
    api.wait_for_dag("sales")
    api.unpause("sales")
    bad = False
    for cutoff in cutoffs:
        began, printed, held = time.monotonic(), 0.0, []
        conf = {"logical_date": None, "conf": {"cutoff": str(cutoff)}}
        run = "/dags/sales/dagRuns/" + api.request("POST", "/dags/sales/dagRuns", json=conf)["dag_run_id"]
        print(f"night of {cutoff}\n{'s':>8} {'MiB':>8}  mapped tasks", flush=True)
        while (now := api.request("GET", run))["state"] not in {"success", "failed"}:
            time.sleep(2)
            if time.monotonic() - printed > 60 and (states := mapped(api, run)):
                printed = time.monotonic()
                held.append(sum(map(memory, psutil.Process().children(recursive=True))) / MIB)
                print(f"{printed - began:>8.0f} {held[-1]:>8.0f}  {states}", flush=True)
        states = mapped(api, run)
        print(
            f"{now['state']} after {time.monotonic() - began:.0f} s, {states}: {(now['note'] or '')[:500]}", flush=True
        )
        bad |= now["state"] != "success" or (len(held) > 1 and held[-1] - held[0] > (args.grow_mib or 1000))
    return bad


def mapped(api: AirflowApi, run: str) -> dict[str, int]:
    """Return how many mapped tasks of a run are in which state."""
    found: Counter[str] = Counter()
    while True:
        page = {"limit": 100, "offset": found.total()}
        listed = api.request("GET", f"{run}/taskInstances/segment/listMapped", params=page)
        found.update(str(task["state"]) for task in listed["task_instances"])
        if found.total() >= listed["total_entries"] or not listed["task_instances"]:
            return dict(found)


def memory(process: psutil.Process) -> int:
    """Return what a process holds, in bytes, its part of what several share counted once; 0 where it has ended."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
