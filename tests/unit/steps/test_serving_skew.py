"""Served rows, replayed: the logged model gives raw rows the predictions that the night has kept, with zero difference."""

from __future__ import annotations

import io
from datetime import date, timedelta
from typing import NamedTuple

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from small_world import DAYS, FIRST, NIGHT, ROWS, SPEC, World

from ratchet.adapters.mlflow import _described
from ratchet.demo.feed import land
from ratchet.home import default_home, load_pipeline

DAY = timedelta(days=1)
PEOPLE = """
SELECT
    row_id, x, place, hour(happened) AS hour,
    CASE WHEN z > 0.5 THEN 'high' WHEN z IS NULL THEN 'none' ELSE 'low' END AS level,
    avg(x) OVER before AS usual,
    count(*) OVER before AS visits,
    lag(place) OVER (PARTITION BY who ORDER BY happened) AS place_before,
    price * 2 AS price,
    date_diff('minute', lag(happened) OVER (PARTITION BY who ORDER BY happened), happened) AS away
FROM rows
WINDOW before AS (PARTITION BY who ORDER BY happened ROWS BETWEEN 5 PRECEDING AND 1 PRECEDING)
"""


class Served(NamedTuple):
    """A pipeline's night, and its logged model as MLflow loads it."""

    world: World
    kept: pd.DataFrame  # the night's predictions of its hold-out
    model: object

    def raw(self, table: str, day: date, drop: tuple[str, ...] = ()) -> pd.DataFrame:
        """Return a day's landed rows as a client has them: without what is unknown, and with their day."""
        (key,) = [stored.uri for stored in self.world.store.list(f"s3://lake/{table}/dt={day}/")]
        landed = pq.read_table(io.BytesIO(self.world.store.get(key))).to_pandas()
        return landed.drop(columns=list(drop)).assign(dt=day)

    def of(self, day: date) -> np.ndarray:
        """Return what the night has kept of a day, by the row's place in its file."""
        here = self.kept[self.kept["dt"] == day]
        return here.set_index(here["row_id"] & 0xFFFFFFFF)["challenger"]


def served(world: World, night, folder) -> Served:
    """Load the model that a night has logged, through MLflow."""
    run = night.train.mlflow_run_id
    files = world.registry.runs[run].model
    for name, data in {**_described(run, "model"), **{f"data/{file}": data for file, data in files.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    kept = pq.read_table(io.BytesIO(world.store.get(night.evaluate.predictions))).to_pandas()
    return Served(world, kept, mlflow.pyfunc.load_model(str(folder)))


@pytest.fixture(scope="module")
def flights(tmp_path_factory) -> Served:
    """Return the demo's model of three weeks of real flights, joined to the weather as of an hour before departure."""
    folder, last = tmp_path_factory.mktemp("flights"), date(2013, 2, 20)
    world = World(folder)
    land(world.store, through=last, history_days=21)
    pipeline = load_pipeline(
        "flight_delay",
        default_home(),
        {"window.days": 20, "window.min_partitions": 10, "window.min_rows": 1000, "training.rounds": 40},
    )
    checks = pipeline.spec.validation.window.model_copy(update={"min_history": 99})
    spec = pipeline.spec.model_copy(
        update={"validation": pipeline.spec.validation.model_copy(update={"window": checks})}
    )
    suite = {"name": "flights", "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "distance", "min_value": 1, "max_value": 9999}}
    ]}  # fmt: skip
    night = world.night(last, pipeline=pipeline.model_copy(update={"spec": spec, "suite": suite}))
    assert night.train.findings == ()
    return served(world, night, folder / "model")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Served:
    """Return a model whose features look back over a person's past, and whose numbers land as NaN and as null."""
    folder = tmp_path_factory.mktemp("people")
    spec = yaml.safe_load(SPEC)
    spec["validation"]["window"] = {"event_time": "happened"}
    world = World(folder, yaml.safe_dump(spec))
    for day in (FIRST + i * DAY for i in range(DAYS)):
        random = np.random.default_rng(day.toordinal() + 1)
        z = np.where(random.random(ROWS) < 0.3, np.nan, random.normal(size=ROWS))
        price = pd.array(np.where(random.random(ROWS) < 0.3, None, random.integers(1, 99, ROWS)), dtype="Int64")
        happened = [pd.Timestamp(day) + timedelta(minutes=int(m)) for m in np.sort(random.permutation(1440)[:ROWS])]
        who, y = [f"p{n}" for n in random.integers(0, 9, ROWS)], np.where(np.isnan(z), 0.9, 0.3) > random.random(ROWS)
        world.land(day, z=z, price=price, happened=happened, who=who, y=y)
    asked = world.pipeline(training__rounds=30, training__params__max_depth=5)
    night = world.night(pipeline=asked.model_copy(update={"sql": PEOPLE}))
    assert (night.findings, night.outcome) == ((), "promoted")
    assert night.train.importance["level"] > 0
    return served(world, night, folder / "model")


UNKNOWN = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum")


def test_flights_are_scored_as_they_were_at_night(flights):
    """Each day of the hold-out by itself, with the weather of that day and the one before: no prediction differs by a bit."""
    days = sorted(set(flights.kept["dt"]))
    assert len(days) == 7
    for day in days:
        weather = pd.concat([flights.raw("weather", day - DAY), flights.raw("weather", day)])
        found = flights.model.predict({"rows": flights.raw("flights", day, UNKNOWN), "weather": weather})
        wanted = flights.of(day)
        assert len(wanted) > 400
        assert (found[wanted.index] == wanted).all()


def test_one_flight_is_scored_as_among_all(flights):
    """Online: a flight alone, with no more weather than its own airport's of the hours before."""
    day = max(flights.kept["dt"])
    rows, weather, wanted = flights.raw("flights", day, UNKNOWN), flights.raw("weather", day), flights.of(day)
    weather = pd.concat([flights.raw("weather", day - DAY), weather])
    for place in wanted.index[:: len(wanted) // 12]:
        one = rows.iloc[[place]]
        before = (weather["origin"] == one["origin"].item()) & (weather["time_hour"] <= one["time_hour"].item())
        assert flights.model.predict({"rows": one, "weather": weather[before]}).tolist() == [wanted[place]]


def test_people_are_scored_as_they_were_at_night(people):
    """Each day of the hold-out with the days before it, as a client has them: NaN and null are the same to it, and so to the night."""
    days = [FIRST + i * DAY for i in range(DAYS)]
    landed = {day: people.raw("rows", day, ("y",)) for day in days}
    assert landed[NIGHT]["z"].isna().any()
    for day in days[-3:]:
        history = pd.concat([landed[d] for d in days if d <= day], ignore_index=True)
        found = people.model.predict(history)
        assert found.tolist()[-ROWS:] == people.of(day).tolist()


def test_a_person_is_scored_by_their_own_past_alone(people):
    """Online: one row, and that person's last five visits."""
    days = [FIRST + i * DAY for i in range(DAYS)]
    history = pd.concat([people.raw("rows", day, ("y",)) for day in days], ignore_index=True)
    wanted = people.of(NIGHT)
    for place in range(0, ROWS, 5):
        row = history.iloc[len(history) - ROWS + place]
        past = history[(history["who"] == row["who"]) & (history["happened"] <= row["happened"])].tail(6)
        assert people.model.predict(past).iloc[-1] == wanted[place]


def test_history_that_is_left_out_is_another_question(people):
    """Without a person's past the features are others: what a query looks back on has to be handed over."""
    alone = people.model.predict(people.raw("rows", NIGHT, ("y",)))
    assert (alone.to_numpy() != people.of(NIGHT).to_numpy()).any()
