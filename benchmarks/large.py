"""What a night over many rows needs: the memory and the time of `ratchet run` with all its processes, step by step.

``python benchmarks/large.py --rows 20000000 --limit-gib 2`` starts services of its own on free ports, lands that many generated orders as
Parquet (texts, timestamps, numbers, 36 % nulls, a side table; one file a day, or one file in all with ``--by column``), and runs whole nights
by the command line in processes that may not write to more memory than that (``RLIMIT_DATA``; without ``--free``). It samples what they
hold, and ends with 1 when a night needed more.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.domain.night import STEPS
from ratchet.stack import embedded
from ratchet.wiring import object_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "orders"
LAST = date(2024, 6, 30)
NULLS = 0.36
_EVERY = 0.2  # seconds between samples
_GIB = 1 << 30
_REGIONS = ("north", "south", "east", "west", "Île-de-France", "it's far", "東京", "")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="of each night's window")
    parser.add_argument("--days", type=int, default=90, help="of the window")
    parser.add_argument("--numbers", type=int, default=8, help="columns of plain numbers besides the others")
    parser.add_argument("--nights", type=int, default=2, help="the first has no champion to compare with")
    parser.add_argument("--rounds", type=int, default=20, help="of boosting")
    parser.add_argument("--by", choices=("path", "column"), default="path", help="what dates the rows")
    parser.add_argument("--limit-gib", type=float, default=4.0, help="of memory that a night is told of, and held to")
    parser.add_argument("--free", action="store_true", help="measure only: nothing holds the processes to the limit")
    parser.add_argument("--evidence", action="store_true", help="with an evidence gate, which fits models of the past")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ratchet-large-") as folder:
        home = Path(folder) / "home"
        write_home(home, args)
        with embedded(Path(folder) / "state") as stack:
            os.environ.update(stack.environment, RATCHET_CACHE=str(Path(folder) / "cache"), PYTHONWARNINGS="ignore")
            os.environ["RATCHET_MEMORY_GIB"] = str(args.limit_gib)
            stored = land(args)
            print(f"{args.rows:,} rows in {args.days} days, {stored / _GIB:.2f} GiB of Parquet", flush=True)
            cutoffs = [LAST + timedelta(days=n) for n in range(args.nights)]
            peaks = [night(home, cutoff, 0 if args.free else int(args.limit_gib * _GIB)) for cutoff in cutoffs]
    print(f"the most that one process wrote to {max(peaks) / _GIB:.2f} GiB, allowed {args.limit_gib:.2f}")
    sys.exit(max(peaks) > args.limit_gib * _GIB)


# The data: orders of shops, of which some are returned.


def land(args: argparse.Namespace) -> int:
    """Put the days that all nights need into the lake, and return their bytes."""
    store, stored = object_store(), 0
    store.ensure_bucket("lake")
    first = LAST - timedelta(days=args.days - 1)
    each = args.rows // args.days
    days = [first + timedelta(days=n) for n in range(args.days + args.nights - 1)]
    side = table_bytes([shops()])
    store.put("s3://lake/shops/shops.parquet", side, "application/vnd.apache.parquet")
    if args.by == "path":
        for n, day in enumerate(days):
            data = table_bytes([orders(day, each, args.numbers, seed=n)])
            store.put(f"s3://lake/orders/day={day}/orders.parquet", data, "application/vnd.apache.parquet")
            stored += len(data)
        return stored
    data = table_bytes(orders(day, each, args.numbers, seed=n) for n, day in enumerate(days))
    store.put("s3://lake/orders/orders.parquet", data, "application/vnd.apache.parquet")
    return len(data)


def orders(day: date, rows: int, numbers: int, seed: int) -> pa.Table:
    """Return a day's orders; whether one is returned follows from a few of the columns."""
    rng = np.random.default_rng(seed)
    shop, region = rng.integers(0, 400, rows), rng.integers(0, len(_REGIONS), rows)
    price, weight, pages = rng.gamma(2.0, 30.0, rows), rng.gamma(3.0, 0.7, rows), rng.poisson(6, rows)
    midnight = np.datetime64(datetime(day.year, day.month, day.day, tzinfo=UTC).replace(tzinfo=None), "us")
    second = rng.integers(0, 86_400, rows)
    gone = rng.random((3, rows)) < NULLS
    logit = 0.02 * (price - 60) - 0.4 * (region % 3) + 0.3 * np.sin(shop) + 0.2 * (second > 64_800) - 1.5
    columns: dict[str, Any] = {
        "order id": pa.array(np.char.add(f"{day:%Y%m%d}-", np.arange(rows).astype("U8"))),
        "shop": pa.array(np.char.add("shop ", shop.astype("U4"))),
        "region": pa.DictionaryArray.from_arrays(pa.array(region, pa.int32()), pa.array(_REGIONS)).cast(pa.string()),
        "channel": pa.array(np.array(["web", "app", "telephone", "desk"])[rng.integers(0, 4, rows)], mask=gone[0]),
        "ordered_at": pa.array(midnight + second.astype("timedelta64[s]")),
        "promised_on": pa.array(
            (midnight + rng.integers(1, 15, rows).astype("timedelta64[D]")).astype("datetime64[D]")
        ),
        "price": pa.array(price),
        "weight": pa.array(weight, mask=gone[1]),
        "pages": pa.array(pages, pa.int32()),
        "gift": pa.array(rng.random(rows) < 0.1, mask=gone[2]),
    }
    for n in range(numbers):
        columns[f"n{n}"] = pa.array(rng.normal(size=rows), mask=rng.random(rows) < NULLS)
    columns["returned"] = pa.array(rng.random(rows) < 1 / (1 + np.exp(-logit)))
    return pa.table({"day": pa.array([day] * rows, pa.date32()), **columns})


def shops() -> pa.Table:
    """Return the side table: what is known of each shop."""
    rng = np.random.default_rng(7)
    return pa.table(
        {"shop": [f"shop {n}" for n in range(400)], "size": rng.gamma(2.0, 1.0, 400), "since": [LAST] * 400}
    )


def table_bytes(tables: Iterator[pa.Table] | list[pa.Table]) -> bytes:
    """Return tables as one Parquet file."""
    out, writer = io.BytesIO(), None
    for table in tables:
        writer = writer or pq.ParquetWriter(out, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer
    writer.close()
    return out.getvalue()


# The pipeline.


def write_home(home: Path, args: argparse.Namespace) -> None:
    """Write the pipeline, its suite and its query."""
    partition = {"by": "path", "pattern": "day={date}/"} if args.by == "path" else {"by": "column", "column": "day"}
    gates: list[dict[str, Any]] = [
        {"kind": "bound", "metric": "auc", "at_least": 0.55},
        {"kind": "baseline", "loss": "brier", "baselines": ["average", "linear"]},
        {"kind": "drift", "at_most": 5.0, "predictions_at_most": 5.0},
        {"kind": "slices", "column": "region", "loss": "brier", "margin": 0.02},
        {"kind": "champion", "loss": "brier", "margin": 0.02},
    ]
    if args.evidence:
        gates.append({"kind": "evidence", "loss": "brier", "backfill_days": 2})
    spec = {
        "name": NAME,
        "description": "Will an order be sent back?",
        "owner": {"name": "benchmark"},
        "start": str(LAST),
        "source": {
            "uri": "s3://lake/orders/",
            "format": "parquet",
            "partition": partition,
            "tables": {
                "shops": {
                    "uri": "s3://lake/shops/",
                    "format": "parquet",
                    "partition": {"by": "column", "column": "since"},
                    "days_before": 900,
                }
            },
            "unknown_at_prediction": ["returned"],
        },
        "window": {"days": args.days, "holdout_days": 7, "stop_days": 7, "min_partitions": 10, "min_rows": 1000},
        "validation": {"suite": NAME},
        "features": NAME,
        "target": {"task": "binary", "sql": "returned"},
        "training": {
            "rounds": args.rounds,
            "early_stopping_rounds": 10,
            "params": {"max_depth": 6, "eta": 0.2, "subsample": 0.8},
        },
        "evaluation": {"slices": ["region"]},
        "gates": gates,
    }
    numbers = "".join(f",\n    o.n{n}" for n in range(args.numbers))
    files = {
        f"pipelines/{NAME}.yaml": json.dumps(spec, indent=1),  # JSON is YAML
        f"suites/{NAME}.json": json.dumps({"name": NAME, "expectations": expectations()}, indent=1),
        f"features/{NAME}.sql": _SQL.replace("/* numbers */", numbers),
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)


_SQL = """
WITH
-- What each shop sold on the seven days before: a look back over the whole window.
sold AS (
    SELECT shop, dt, count(*) AS orders, avg(price) AS price FROM rows GROUP BY shop, dt
),
before AS (
    SELECT
        shop, dt,
        sum(orders) OVER week AS orders_7d,
        avg(price) OVER week AS price_7d
    FROM sold
    WINDOW week AS (
        PARTITION BY shop ORDER BY dt
        RANGE BETWEEN INTERVAL 7 DAYS PRECEDING AND INTERVAL 1 DAY PRECEDING
    )
)
SELECT
    o.row_id,
    o.shop,
    o.region,
    o.channel,
    hour(o.ordered_at) AS hour,
    isodow(o.dt) AS weekday,
    o.promised_on - o.dt AS days_promised,
    o.price,
    o.weight,
    o.pages,
    o.gift,
    s.size AS shop_size,
    b.orders_7d,
    b.price_7d/* numbers */
FROM rows o
LEFT JOIN shops s ON o.shop = s.shop
LEFT JOIN before b ON o.shop = b.shop AND o.dt = b.dt
"""


def expectations() -> list[dict[str, Any]]:
    """Return a suite of the usual kinds."""
    given: list[tuple[str, dict[str, Any]]] = [
        ("expect_table_row_count_to_be_between", {"min_value": 100}),
        ("expect_column_values_to_be_unique", {"column": "order id"}),
        ("expect_column_values_to_not_be_null", {"column": "shop"}),
        ("expect_column_values_to_not_be_null", {"column": "weight", "mostly": 0.5}),
        ("expect_column_values_to_be_between", {"column": "price", "min_value": 0, "max_value": 100_000}),
        ("expect_column_values_to_be_in_set", {"column": "region", "value_set": list(_REGIONS)}),
        ("expect_column_values_to_match_regex", {"column": "shop", "regex": "^shop [0-9]+$"}),
        ("expect_column_mean_to_be_between", {"column": "pages", "min_value": 1, "max_value": 20}),
    ]
    return [{"type": kind, "kwargs": kwargs, "severity": "critical"} for kind, kwargs in given]


# The measurement.


@dataclass
class Needed:
    """What a step needed at most: in bytes, and of time.

    ``resident`` counts pages of files that are mapped, which the system takes back when others want them, and pages that
    processes share, once for each; ``owned`` is what only these processes hold. ``written`` is what a process may
    write to, be it touched or not, of the one that has most of it: that is what the limit holds.
    """

    resident: int = 0
    owned: int = 0
    written: int = 0
    seconds: float = 0.0
    processors: float = 0.0
    began: tuple[float, float] = field(default=(0.0, 0.0), repr=False)


def night(home: Path, cutoff: date, limit: int) -> int:
    """Run one night, print what each step needed, and return the most memory that one of its processes may write to."""
    command = [
        str(Path(sys.executable).with_name("ratchet")),
        "run",
        NAME,
        "--cutoff",
        str(cutoff),
        "--home",
        str(home),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if limit:
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, limit))  # those that it starts inherit it
    step, said = ["start"], []

    def follow() -> None:
        assert process.stderr
        for line in process.stderr:
            said.append(line)
            if line.strip() in STEPS:
                step[0] = line.strip()

    reader = threading.Thread(target=follow)
    reader.start()
    print(f"night of {cutoff}\n  {'step':<10} resident    owned  written        s    CPU s   (GiB)", flush=True)
    found = sampled(process.pid, lambda: step[0], lambda: process.poll() is None)
    reader.join()
    assert process.stdout
    out = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"the night of {cutoff} ended with {process.returncode}:\n{out}\n{''.join(said[-40:])}")
    print(f"  {out.splitlines()[0][:150]}", flush=True)
    return max(needed.written for needed in found.values())


def sampled(pid: int, step: Callable[[], str], running: Callable[[], bool]) -> dict[str, Needed]:
    """Return by step what a process and its descendants needed, and print each step when it is over."""
    found: dict[str, Needed] = defaultdict(Needed)
    current, used = step(), 0.0
    found[current].began = time.monotonic(), used

    def show() -> None:
        needed = found[current]
        needed.seconds, needed.processors = time.monotonic() - needed.began[0], used - needed.began[1]
        print(
            f"  {current:<10} {needed.resident / _GIB:8.2f} {needed.owned / _GIB:8.2f} {needed.written / _GIB:8.2f} "
            f"{needed.seconds:8.1f} {needed.processors:8.1f}",
            flush=True,
        )

    while running():
        if step() != current:
            show()
            current = step()
            found[current].began = time.monotonic(), used
        needed, held = found[current], (0, 0, 0)
        try:
            family = psutil.Process(pid), *psutil.Process(pid).children(recursive=True)
            held = tuple(sum(side) for side in zip(*(_memory(one.pid) for one in family), strict=True))
            needed.written = max(needed.written, *(_memory(one.pid)[2] for one in family))
            times = psutil.Process(pid).cpu_times()  # of its descendants, when they have ended
            used = times.user + times.system + times.children_user + times.children_system
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
        needed.resident, needed.owned = max(needed.resident, held[0]), max(needed.owned, held[1])
        time.sleep(_EVERY)
    show()
    return dict(found)


def _memory(pid: int) -> tuple[int, int, int]:
    """Return the bytes that a process holds, that it holds of no file, and that it may write to."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    sizes = {words[0]: int(words[1]) << 10 for words in lines if words[-1:] == ["kB"]}
    return sizes.get("VmRSS:", 0), sizes.get("RssAnon:", 0), sizes.get("VmData:", 0)


if __name__ == "__main__":
    main()
