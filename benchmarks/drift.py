"""Whether the drift check keeps its budget on quiet nights, and how soon it finds what was planted.

``python -m benchmarks.drift [--worlds 20] [--cache …]`` prints tables; the first run lands the demo's year into the cache. Each night has a
champion of its own (made of the days before, the hardest case: it knows of a shift from the second night on), except where it
says frozen. Nothing is timed against a limit.

* null, made up: worlds whose days differ by weather that lasts (autocorrelated), by weekday and by their number of rows, but do not change
* null, flights in shuffled weeks: real days without their seasons
* flights as they came: seasons are not quiet, but nobody should hear of each front that passes
* planted: what goes wrong at a source, from one night on
* frozen: a champion made of January and February, until December
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from benchmarks.decisions.flights import load

from ratchet.domain.data_rules import Drift
from ratchet.domain.drift_days import judge
from ratchet.domain.drifted import APART
from ratchet.domain.models import Feature, ModelFiles, ModelSchema
from ratchet.domain.windows import windows
from ratchet.steps.binning import by_day
from ratchet.steps.drift import columns_of, profile_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratchet.domain.drifted import DriftResult
    from ratchet.domain.profiles import Profile

    Days = list[pa.Table]
    Spoil = Callable[[pa.Table, np.random.Generator], pa.Table]

FIRST, MONTH = date(2013, 1, 1), 30.4375
WINDOW, LATER = 90, 8  # days; nights that are looked at after a shift


def main() -> None:
    """Run the studies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ratchet-benchmarks"
    parser.add_argument("--cache", type=Path, default=usual)
    parser.add_argument("--worlds", type=int, default=20, help="made-up worlds; a quarter as many shuffled years")
    parser.add_argument("--nights", type=int, default=120, help="of each made-up world")
    parser.add_argument("--only", choices=["null", "planted", "frozen"], help="one of the studies")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    year = load(2013, args.cache)
    flights = [year.rows(i, i).drop_columns(["row_id"]) for i in range(year.days)]
    started = time.perf_counter()
    if args.only in {None, "planted"}:
        planted(flights, args.worlds)
    if args.only in {None, "frozen"}:
        frozen(flights)
    if args.only in {None, "null"}:
        null(args.worlds, args.nights, flights)
    print(f"\n{time.perf_counter() - started:.0f} s")


def null(worlds: int, nights: int, flights: Days) -> None:
    """Count alarms where nothing has changed."""
    print(
        "\n| quiet nights | budget a month | nights in a row | false alarms a month | of nights |\n|---|---|---|---|---|"
    )
    made = [world(np.random.default_rng(seed), WINDOW + nights) for seed in range(worlds)]
    as_they_came = [one for (one,) in refreshed(flights, range(WINDOW, len(flights)), Drift())]
    row("flights as they came", Drift(), [as_they_came])
    rules = (Drift(), Drift(alarms_per_month=2), Drift(nights=1), Drift(min_effect=0.0))
    worlds_told = [list(refreshed(days, range(WINDOW, len(days)), *rules)) for days in made]
    for i, rule in enumerate(rules):
        row("made up", rule, [[night[i] for night in one] for one in worlds_told])
    shuffled = []
    for seed in range(max(worlds // 4, 1)):
        weeks = np.random.default_rng(1000 + seed).permutation(len(flights) // 7)
        days = [flights[7 * week + i] for week in weeks for i in range(7)]
        shuffled.append([one for (one,) in refreshed(days, range(WINDOW, len(days)), Drift())])
    row("flights, weeks shuffled", Drift(), shuffled)


def row(name: str, rule: Drift, told: list[list[DriftResult]]) -> None:
    """Print how often somebody was told."""
    nights = sum(len(one) for one in told)
    alarms = sum(episodes(one) for one in told)
    print(
        f"| {name} | {rule.alarms_per_month:g} | {rule.nights} | {alarms / nights * MONTH:.2f} | {nights} |", flush=True
    )


def episodes(told: list[DriftResult]) -> int:
    """Count alarms as a person is told of them: once a week while it lasts."""
    count, last = 0, date.min
    for one in told:
        if one.state == "drift" and one.day and (one.day - last).days > APART:
            count, last = count + 1, one.day
    return count


def planted(flights: Days, times: int) -> None:
    """Count the nights until the column that was spoilt is named."""
    shown = (2, 3, 4, 7)
    print(
        "\n| planted | " + " | ".join(f"named by night {n}" for n in shown) + f" |\n|---|{'---|' * len(shown)}",
        flush=True,
    )
    starts = np.random.default_rng(7).choice(np.arange(WINDOW, len(flights) - LATER), size=times, replace=False)
    for name, (subject, spoil) in FAULTS.items():
        found = [named(flights, int(start), subject, spoil) for start in starts]
        shares = [sum(night is not None and night <= n for night in found) / times for n in shown]
        print(f"| {name} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |", flush=True)


def named(flights: Days, start: int, subject: str, spoil: Spoil) -> int | None:
    """Return the night on which a fault is found that is planted on a day; the first is that day's."""
    random = np.random.default_rng(start)
    spoilt = [spoil(d, random) if 0 <= i - start < LATER else d for i, d in enumerate(flights)]
    for night, (one,) in enumerate(refreshed(spoilt, range(start, start + LATER), Drift()), start=1):
        if one.state == "drift" and any(s.drifted and s.subject == subject for s in one.subjects):
            return night
    return None


def frozen(flights: Days) -> None:
    """Show what is said of a champion that nobody replaces."""
    made = list(kept(flights, 59, range(59, len(flights)), Drift()))
    first = next(one for one in made if one.state == "drift")
    print(f"\nA champion of January and February: {first.words}; told {episodes(made)} times in {len(made)} nights")
    for month in range(3, 13):
        here = [one for one in made if one.day and one.day.month == month]
        drifted = [one for one in here if one.state == "drift"]
        subjects = Counter(s.subject for one in drifted for s in one.subjects if s.drifted)
        print(
            f"  {month:2d}: drift on {len(drifted)} of {len(here)} nights: {', '.join(s for s, _ in subjects.most_common(3))}"
        )


def refreshed(days: Days, nights: range, *rules: Drift) -> Iterator[tuple[DriftResult, ...]]:
    """Judge each night by a champion of the days before it."""
    for night in nights:
        profile, files = profiled(days, night, WINDOW)
        fresh = counted(profile, files, days, night)
        yield tuple(judge(profile, fresh, rule, 1) for rule in rules)


def kept(days: Days, made: int, nights: range, rule: Drift) -> Iterator[DriftResult]:
    """Judge each night by one champion."""
    profile, files = profiled(days, made, made)
    fresh: dict[date, Any] = {}
    for night in nights:
        fresh |= counted(profile, files, days, night)
        yield judge(profile, fresh, rule, 1)


def profiled(days: Days, night: int, length: int) -> tuple[Profile, ModelFiles]:
    """Return the profile of a model that the night before has made; what it would predict is left out."""
    table = pa.concat_tables([dated(days[i], i) for i in range(night - length, night)])
    names = [name for name in table.column_names if name not in {"dt", "target"}]
    kinds: list[Any] = ["category" if pa.types.is_string(table[name].type) else "number" for name in names]
    features = tuple(Feature(name=name, kind=kind) for name, kind in zip(names, kinds, strict=True))
    schema = ModelSchema(task="binary", features=features, best_iteration=0)
    files = ModelFiles(booster=b"", features="", schema_=schema)
    span = windows(day(night - 1), days=length, holdout_days=7, stop_days=7, label_delay_days=0)
    return profile_of(files, span, table, lambda part: np.zeros(part.num_rows)), files


def counted(profile: Profile, files: ModelFiles, days: Days, night: int) -> dict[date, Any]:
    """Count a fresh day."""
    return by_day(dated(days[night], night), columns_of(files, profile.bins))


def dated(table: pa.Table, number: int) -> pa.Table:
    """Return a day's rows as if they had come on another day."""
    here = pa.array(np.full(table.num_rows, np.datetime64(day(number), "D")))
    return table.drop_columns(["dt"] if "dt" in table.column_names else []).append_column("dt", here)


def day(number: int) -> date:
    """Return a day by its number."""
    return FIRST + timedelta(days=number)


def world(rng: np.random.Generator, days: int) -> Days:
    """Return days of a world that does not change: weather that lasts, weekdays, heavy tails, nulls, categories, few values."""
    weather = np.zeros((days, 6))
    for i in range(days):
        weather[i] = 0.7 * (weather[i - 1] if i else 0) + rng.normal(size=6)
    made = []
    for i, air in enumerate(weather):
        n, weekend = int(rng.integers(60, 200)), i % 7 >= 5
        a = air[0] + rng.normal(size=n)
        b = np.exp(0.5 * air[1] + rng.normal(size=n))
        c = 0.3 * air[2] + rng.standard_t(2, size=n)
        d = np.where(rng.random(n) < 0.36 + 0.05 * np.tanh(air[3]), np.nan, rng.normal(size=n))
        shares = np.exp(
            np.arange(8) * -0.5 + 0.2 * air[4] * np.linspace(-1, 1, 8) + 0.5 * weekend * (np.arange(8) == 1)
        )
        e = rng.choice(list("abcdefgh"), n, p=shares / shares.sum())
        f = rng.poisson(np.exp(0.3 * air[5]), n)
        label = rng.random(n) < 1 / (1 + np.exp(-(0.5 * a + 0.3 * air[0] - 1 + 0.4 * weekend)))
        plain = {f"plain{k}": rng.normal(size=n) for k in range(4)}
        made.append(pa.table({"a": a, "b": b, "c": c, "d": d, "e": e, "f": f, **plain, "target": label}))
    return made


def change(name: str, how: Callable[[pa.ChunkedArray, np.random.Generator], Any]) -> tuple[str, Spoil]:
    """Return what spoils one column, and how it is called."""

    def spoil(table: pa.Table, rng: np.random.Generator) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, how(table[name], rng))

    return ("label" if name == "target" else f"feature {name}"), spoil


def some(column: pa.ChunkedArray, share: float, rng: np.random.Generator, value: Any) -> Any:
    """Replace a share of the rows."""
    here = pa.array(rng.random(len(column)) < share)
    return pc.if_else(here, pa.scalar(value, column.type) if not isinstance(value, pa.ChunkedArray) else value, column)


FAULTS: dict[str, tuple[str, Spoil]] = {
    "temperature in °C instead of °F": change("temp", lambda c, _: pc.multiply(pc.subtract(c, 32.0), 5 / 9)),
    "distance in kilometres": change(
        "distance", lambda c, _: pc.multiply(c.cast(pa.float64()), 1.609).cast(c.type, safe=False)
    ),
    "pressure 10 hPa too high": change("pressure", lambda c, _: pc.add(c, 10.0)),
    "humidity missing in every fifth row": change("humid", lambda c, r: some(c, 0.2, r, None)),
    "a carrier renamed": change("carrier", lambda c, _: pc.replace_substring(c, "UA", "United")),
    "departure an hour late (summer time)": change("departs_minute", lambda c, _: pc.add(c, 60).cast(c.type)),
    "every tenth origin wrong": change("origin", lambda c, r: some(c, 0.1, r, "XXX")),
    "wind in metres a second": change("wind_speed", lambda c, _: pc.multiply(c, 0.447)),
    "half the labels flipped": change("target", lambda c, r: some(c, 0.5, r, pc.invert(c))),
    "labels never late": change("target", lambda c, r: some(c, 1.0, r, False)),
}

if __name__ == "__main__":
    main()
