"""What a night costs: `ratchet run` over a bare script, the libraries over a script without them, and Airflow over one process.

``python benchmarks/night.py [--nights 5] [--airflow]`` starts services of its own on free ports, lands real flights, warms up with one
night of each kind, and then runs the same new night by each in turn, whole processes in pairs, so that a machine whose speed
drifts does not decide the ratio. Run it on an otherwise quiet machine. It prints medians and ratios, and writes nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from ratchet.airflow_api import AirflowApi
from ratchet.demo.feed import land
from ratchet.home import default_home, load_pipeline
from ratchet.stack import embedded
from ratchet.wiring import object_store

PIPELINE = "flight_delay"
FIRST = date(2013, 6, 17)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=5)
    parser.add_argument(
        "--airflow", action="store_true", help="also through a real Airflow, instead of the bare scripts"
    )
    args = parser.parse_args()
    services = ("s3", "mlflow", "airflow") if args.airflow else ("s3", "mlflow")
    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as folder:
        state = Path(folder) / "state"
        with embedded(state, services) as stack:
            os.environ.update(stack.environment, RATCHET_CACHE=str(state / "cache"), PYTHONWARNINGS="ignore")
            cutoffs = [FIRST + timedelta(days=n) for n in range((args.nights + 1) * (2 if args.airflow else 1))]
            store = object_store()
            store.ensure_bucket("lake")
            land(store, through=cutoffs[-1], history_days=120)
            if args.airflow:
                through_airflow(cutoffs)
            else:
                against_scripts(cutoffs, Path(folder))


def against_scripts(cutoffs: list[date], folder: Path) -> None:
    """Run each night by Ratchet and by the bare scripts."""
    spec = load_pipeline(PIPELINE).spec
    figures = json.dumps(
        {
            **spec.window.model_dump(),
            **spec.training.model_dump(include={"rounds", "early_stopping_rounds", "params"}),
            "threads": spec.training.threads or 2,
            "hidden": spec.source.unknown_at_prediction,
            "target": spec.target.sql,
        }
    )
    bare = [
        sys.executable,
        str(Path(__file__).with_name("bare_night.py")),
        "--home",
        str(default_home()),
        "--spec",
        figures,
    ]
    commands = {
        "ratchet run": lambda day: [
            str(Path(sys.executable).with_name("ratchet")),
            "run",
            PIPELINE,
            "--cutoff",
            str(day),
            "--json",
        ],
        "bare script": lambda day: [*bare, "--cutoff", str(day), "--folder", str(folder / "bare")],
        "without checks": lambda day: [
            *bare,
            "--cutoff",
            str(day),
            "--folder",
            str(folder / "without"),
            "--without-checks",
        ],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    steps: list[dict[str, float]] = []
    for n, cutoff in enumerate(cutoffs):
        names = list(commands) if n % 2 else list(reversed(commands))
        for name in names:
            seconds, out = timed(commands[name](cutoff))
            if n:  # the first night of each warms up
                took[name].append(seconds)
                if name == "ratchet run":
                    steps.append(json.loads(out)["seconds"])
                print(f"{cutoff}  {name:<15} {seconds:6.2f} s", flush=True)
    show(took)
    ratio("ratchet run / bare script", took["ratchet run"], took["bare script"])
    ratio("bare script / without checks", took["bare script"], took["without checks"])
    print(
        "steps of ratchet run, median s: "
        + ", ".join(f"{s} {statistics.median(x.get(s, 0.0) for x in steps):.2f}" for s in steps[0])
    )


def through_airflow(cutoffs: list[date]) -> None:
    """Run every other night through Airflow, and those between in one process."""
    airflow = AirflowApi(*(os.environ[f"RATCHET_AIRFLOW_{name}"] for name in ("URL", "USER", "PASSWORD")))
    airflow.wait_for_dag(PIPELINE)
    airflow.unpause(PIPELINE)
    took: dict[str, list[float]] = {"airflow": [], "ratchet run": []}
    for n in range(0, len(cutoffs), 2):
        seconds = night_in_airflow(airflow, cutoffs[n])
        alone, _ = timed(
            [str(Path(sys.executable).with_name("ratchet")), "run", PIPELINE, "--cutoff", str(cutoffs[n + 1]), "--json"]
        )
        if n:
            took["airflow"].append(seconds)
            took["ratchet run"].append(alone)
            print(f"{cutoffs[n]}  airflow {seconds:6.2f} s   {cutoffs[n + 1]}  ratchet run {alone:6.2f} s", flush=True)
    show(took)
    over = [a - b for a, b in zip(took["airflow"], took["ratchet run"], strict=True)]
    print(f"airflow minus ratchet run: median {statistics.median(over):+.2f} s, {min(over):+.2f} to {max(over):+.2f}")


def night_in_airflow(airflow: AirflowApi, cutoff: date) -> float:
    """Trigger one run and wait for its end; return the seconds between, as its caller sees them."""
    started = time.monotonic()
    run = airflow.request(
        "POST", f"/dags/{PIPELINE}/dagRuns", json={"logical_date": None, "conf": {"cutoff": str(cutoff)}}
    )
    while True:
        found = airflow.request("GET", f"/dags/{PIPELINE}/dagRuns/{run['dag_run_id']}")
        if found["state"] in {"success", "failed"}:
            if found["state"] == "failed":
                raise SystemExit(f"the run for {cutoff} failed: {found['note']}")
            return time.monotonic() - started
        time.sleep(0.2)


def timed(command: list[str]) -> tuple[float, str]:
    """Run a whole process and return its seconds and its output."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command[:4])} … ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return seconds, done.stdout


def show(took: dict[str, list[float]]) -> None:
    """Print medians and ranges."""
    for name, seconds in took.items():
        print(
            f"{name:<15} median {statistics.median(seconds):6.2f} s, {min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} nights"
        )


def ratio(name: str, ours: list[float], theirs: list[float]) -> None:
    """Print the ratio pair by pair."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"{name}: median {statistics.median(pairs):.2f}, {min(pairs):.2f} to {max(pairs):.2f}")


if __name__ == "__main__":
    main()
