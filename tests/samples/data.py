"""Sample data of shapes and tasks other than flights, made by seeded generators; nothing is stored in the repository.

Each generator yields ``(key, bytes)`` for the days of a range, below the bucket that the sample's spec reads from. A day's
bytes depend on the sample and the day alone, so overlapping ranges give the same objects.

========== ==========  ===========================  =====================================================================
sample     task        files                        what is awkward about them
========== ==========  ===========================  =====================================================================
energy     regression  CSV, gz, ``2024/03/01/``     two files a day, semicolons, ``n/a`` for null, meters numbered ``0042``
tickets    multiclass  JSON Lines, some gz          dated by a column, several days a file, a rare class, nested objects
churn      binary      Parquet, ``day=2024-03-01``  36 % nulls, odd column names and categories, booleans and decimals
deliveries quantile    Parquet, ``day=2024-03-01``  skewed labels whose spread grows with distance and rain
searches   ranking     JSON Lines, ``2024-03-01``   lists of 2 to 12 rows, some of which hold nothing that was looked at
========== ==========  ===========================  =====================================================================
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST = date(2024, 1, 1)  # samples start here
DAY = timedelta(days=1)


def energy(first: date, last: date) -> Iterator[tuple[str, bytes]]:
    """Hourly load of 40 meters, with a yearly, a weekly and a daily season."""
    for day in _days(first, last):
        rng = _rng("energy", day)
        yearly = np.cos(2 * np.pi * (day.timetuple().tm_yday - 20) / 365.25)
        weekend = day.weekday() >= 5
        parts: list[list[list[str]]] = [[], []]
        for meter in range(1, 41):
            size, heated = 0.5 + (meter * 37 % 40) / 20, meter % 3 == 0
            outside = 11 - 10 * yearly + rng.normal(0, 2)
            for hour in range(24):
                celsius = outside + 4 * np.sin(2 * np.pi * (hour - 9) / 24) + rng.normal(0, 0.5)
                load = size * (2 + 1.2 * np.sin(2 * np.pi * (hour - 7) / 24) ** 2 + 0.4 * weekend)
                load += size * max(0.0, 16 - celsius) * (0.25 if heated else 0.05)
                load *= float(np.exp(rng.normal(0, 0.1)))
                seen = "n/a" if rng.random() < 0.03 else f"{celsius:.1f}"
                counted = "" if rng.random() < 0.01 else f"{load:.3f}"
                tariff = ("day", "night", "weekend")[2 if weekend else int(hour < 6 or hour >= 22)]
                parts[meter % 2].append([f"{meter:04d}", f"{day} {hour:02d}:00:00", tariff, seen, counted])
        for number, rows in enumerate(parts):
            text = io.StringIO()
            writer = csv.writer(text, delimiter=";", lineterminator="\n")
            writer.writerow(["meter", "read_at", "tariff", "outside_celsius", "load_kwh"])
            writer.writerows(rows)
            yield f"energy/{day:%Y/%m/%d}/part-{number}.csv.gz", gzip.compress(text.getvalue().encode(), mtime=0)


def tickets(first: date, last: date) -> Iterator[tuple[str, bytes]]:
    """Support tickets to be routed to a team: exports of three days each, of which only finished ones are there."""
    block = (first - FIRST) // (3 * DAY)
    while (end := FIRST + DAY * (3 * block + 2)) <= last:
        lines: list[str] = []
        for day in _days(end - 2 * DAY, end):
            lines += _tickets_of(day)
        order = _rng("tickets-order", end).permutation(len(lines))
        data = ("\n".join(lines[i] for i in order) + "\n").encode()
        key = f"tickets/export-{block:05d}.jsonl"
        yield (f"{key}.gz", gzip.compress(data, mtime=0)) if block % 2 else (key, data)
        block += 1


def _tickets_of(day: date) -> list[str]:
    teams = ("billing", "technical", "account", "legal")
    rng = _rng("tickets", day)
    rows = []
    for number in range(int(rng.integers(180, 260))):
        plan = str(rng.choice(["free", "pro", "enterprise"], p=[0.6, 0.3, 0.1]))
        at = datetime.combine(day, time()) + timedelta(seconds=int(rng.integers(0, 86_400)))
        invoices, errors = int(rng.poisson(1.5)), int(rng.poisson(2))
        channel = str(rng.choice(["mail", "phone", "chat", "fax"], p=[0.5, 0.2, 0.295, 0.005]))
        words = int(rng.lognormal(4, 0.8))
        scores = np.array(
            [
                0.9 * invoices - 0.5,
                0.7 * errors + 0.4 * (channel == "chat"),
                0.8 * (plan == "free") + 0.9,
                -1.5 + 1.2 * (plan == "enterprise") + 0.004 * min(words, 400),
            ]
        )
        team = teams[int(np.argmax(scores + rng.gumbel(0, 0.6, 4)))]
        row = {
            "id": f"T-{day:%y%m%d}-{number:04d}",
            "created": at.isoformat(),
            "channel": channel,
            "customer": {"plan": plan, "seats": int(rng.geometric(0.1)) if plan != "free" else None},
            "words": words,
            "open_invoices": invoices,
            "errors_last_day": errors,
            "team": team if rng.random() > 0.02 else None,
            "closed_after_minutes": int(rng.integers(5, 5000)),
        }
        if rng.random() < 0.1:
            row["note"] = 'línea «ñ» \\ "quoted" \n next line'  # a key that most rows lack
        rows.append(json.dumps(row, ensure_ascii=False))
    return rows


def churn(first: date, last: date) -> Iterator[tuple[str, bytes]]:
    """Subscribers who renew today or do not; names, categories and nulls as a hasty export leaves them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plans = ("Básico", 'the "good" one', "it's fine", "", "プロ", "O'Brien; DROP TABLE--", " padded ", "a\tb")
    for day in _days(first, last):
        rng = _rng("churn", day)
        n = 300
        plan = rng.integers(0, len(plans), n)
        months, calls = rng.geometric(0.05, n), rng.poisson(1.0, n)
        price = (5 + 3 * plan + rng.integers(0, 3, n)).astype(float)
        logit = -1.0 - 0.04 * months + 0.7 * calls + 0.5 * (plan % 3 == 0) + 0.03 * price
        left = rng.random(n) < 1 / (1 + np.exp(-logit))

        def gaps(values: list[object], share: float, rng: np.random.Generator = rng) -> list[object]:
            return [
                None if gone else value for value, gone in zip(values, rng.random(len(values)) < share, strict=True)
            ]

        table = pa.table(
            {
                "subscriber id": pa.array([f"{day:%j}{i:05d}" for i in range(n)], pa.string()),
                "Plan Name": pa.array(gaps([plans[i] for i in plan], 0.1), pa.string()),
                "months": pa.array(gaps([int(m) for m in months], 0.36), pa.int16()),
                "calls": pa.array(gaps([int(c) for c in calls], 0.36), pa.int64()),
                "price": pa.array(gaps([Decimal(f"{p:.2f}") for p in price], 0.36), pa.decimal128(8, 2)),
                "auto-renew": pa.array(gaps([bool(b) for b in rng.random(n) < 0.5], 0.36), pa.bool_()),
                "last_login": pa.array(gaps([day - DAY * int(d) for d in rng.integers(0, 60, n)], 0.36), pa.date32()),
                "never filled": pa.nulls(n, pa.float64()),
                "left": pa.array([bool(b) for b in left], pa.bool_()),
                "left_on": pa.array([day if b else None for b in left], pa.date32()),
            }
        )
        out = io.BytesIO()
        pq.write_table(table, out, row_group_size=128)
        yield f"churn/day={day}/subscribers.parquet", out.getvalue()


def deliveries(first: date, last: date) -> Iterator[tuple[str, bytes]]:
    """Parcels and the minutes that they take: long ways take longer, and how much longer is less certain."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for day in _days(first, last):
        rng = _rng("deliveries", day)
        n = int(rng.integers(180, 260))
        vehicle = rng.integers(0, 3, n)
        kilometres, stops, hour = rng.gamma(2.0, 6.0, n), rng.poisson(4, n), rng.integers(7, 20, n)
        rain = rng.gamma(0.5, 2.0, n) * (rng.random() < 0.5)
        rush = np.isin(hour, (8, 9, 16, 17))
        mean = 6 + kilometres * np.array([3.0, 1.6, 2.0])[vehicle] * (1 + 0.5 * rush * (vehicle > 0)) + 4 * stops
        minutes = mean * np.exp(rng.normal(0, 0.1 + 0.01 * kilometres + 0.05 * np.minimum(rain, 4)))
        table = pa.table(
            {
                "parcel": pa.array([f"{day:%y%m%d}-{i:04d}" for i in range(n)], pa.string()),
                "vehicle": pa.array([("bike", "van", "truck")[i] for i in vehicle], pa.string()),
                "kilometres": pa.array(kilometres.round(1)),
                "stops": pa.array(stops, pa.int16()),
                "hour": pa.array(hour, pa.int8()),
                "rain_mm": pa.array(
                    [None if gap else float(r) for gap, r in zip(rng.random(n) < 0.05, rain, strict=True)]
                ),
                "minutes": pa.array(
                    [None if gone else float(m) for gone, m in zip(rng.random(n) < 0.02, minutes, strict=True)]
                ),
            }
        )
        out = io.BytesIO()
        pq.write_table(table, out)
        yield f"deliveries/day={day}/parcels.parquet", out.getvalue()


def searches(first: date, last: date) -> Iterator[tuple[str, bytes]]:
    """Answers to searches in a shop, and what became of each offer in them; their rows lie in no order."""
    for day in _days(first, last):
        rng = _rng("searches", day)
        lines = []
        for number in range(int(rng.integers(50, 80))):
            device, usual = str(rng.choice(["phone", "desk"])), float(rng.lognormal(3, 1))
            offers = int(rng.integers(2, 13))
            matched, stars = rng.integers(0, 5, offers), rng.uniform(1, 5, offers)
            price = usual * np.exp(rng.normal(0, 0.3, offers))
            liked = 0.8 * matched - 2.0 * np.log(price / usual) * (1 + (device == "phone")) + 0.7 * np.abs(stars - 2)
            liked += rng.gumbel(0, 0.7, offers)
            bought = int(np.argmax(liked)) if rng.random() < 0.4 else -1
            for i in range(offers):
                row = {
                    "search": f"{day:%y%m%d}-{number:03d}",
                    "device": device,
                    "offer": int(rng.integers(1, 10**6)) * 100 + i,
                    "words_matched": int(matched[i]),
                    "price": round(float(price[i]), 2),
                    "usual_price": round(usual, 2) or 0.01,
                    "stars": round(float(stars[i]), 1) if rng.random() > 0.2 else None,
                    "looked_at": bool(i == bought or liked[i] > 3.5),
                    "bought": i == bought,
                }
                lines.append(json.dumps(row))
        order = rng.permutation(len(lines))
        yield f"searches/{day}.jsonl", ("\n".join(lines[i] for i in order) + "\n").encode()


SAMPLES: dict[str, Callable[[date, date], Iterator[tuple[str, bytes]]]] = {
    "energy": energy,
    "tickets": tickets,
    "churn": churn,
    "deliveries": deliveries,
    "searches": searches,
}


def _days(first: date, last: date) -> Iterator[date]:
    return (first + DAY * i for i in range((last - first).days + 1))


def _rng(sample: str, day: date) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(sample.encode()), day.toordinal()])
