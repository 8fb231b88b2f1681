"""The flight_delay pipeline: what its query may know, and what its suite lets pass."""

import json
import re
from datetime import date, datetime, timedelta

import pytest

from ratchet.domain.gates import BoundGate
from ratchet.home import default_home, load_pipeline

DEPARTURE = datetime(2013, 6, 1, 12)  # noqa: DTZ001  UTC, stored without a zone


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline("flight_delay", default_home())


@pytest.fixture
def features(pipeline):
    """Run the query over flights leaving at given times from JFK, and weather rows of (time, temperature, ...)."""
    import duckdb

    def run(departures, weather, origin="JFK"):
        db = duckdb.connect()
        db.sql(
            "CREATE TABLE rows (row_id BIGINT, dt DATE, time_hour TIMESTAMP, hour INTEGER, minute INTEGER,"
            " sched_arr_time INTEGER, carrier VARCHAR, origin VARCHAR, dest VARCHAR, distance INTEGER)"
        )
        db.sql(
            "CREATE TABLE weather (origin VARCHAR, time_hour TIMESTAMP, temp DOUBLE, dewp DOUBLE, humid DOUBLE,"
            " wind_speed DOUBLE, wind_gust DOUBLE, precip DOUBLE, visib DOUBLE, pressure DOUBLE)"
        )
        for i, at in enumerate(departures):
            hour = at.replace(minute=0) if at else None
            row = (i, date(2013, 6, 1), hour, at.hour if at else None, at.minute if at else None)
            db.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?, 1530, 'AA', ?, 'LAX', 2475)", [*row, origin])
        for at, temp, *rest in weather:
            wind, precip = rest or (10.0, 0.0)
            db.execute(
                "INSERT INTO weather VALUES ('JFK', ?, ?, 40, 50, ?, NULL, ?, 10, 1010)", [at, temp, wind, precip]
            )
        found = db.sql(pipeline.sql)
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

    return run


def hours_before(hours):
    return DEPARTURE - timedelta(hours=hours)


def test_weather_is_known_an_hour_before_departure(features):
    """An hour's observation is there when the hour is over, and must be there an hour ahead of the flight."""
    found = features([DEPARTURE], [(hours_before(2), 60.0), (hours_before(1.99), 70.0), (hours_before(0), 80.0)])
    assert found[0]["temp"] == 60


def test_the_audit_for_looks_ahead_sees_within_a_day(pipeline):
    """Weather of a day lands with its flights: without times, a maximum over the whole day would pass for the past."""
    assert pipeline.spec.validation.window.event_time == "time_hour"
    assert pipeline.spec.source.tables["weather"].known_at == "time_hour"


def test_later_weather_changes_nothing(features):
    """Features are the same whether or not the weather after departure has landed."""
    past = [(hours_before(h), 50.0 + h, 8.0, 0.1) for h in range(2, 9)]
    future = [(hours_before(-h), 99.0, 90.0, 2.0) for h in range(-1, 9)]
    assert features([DEPARTURE], past) == features([DEPARTURE], past + future)


def test_stale_weather_is_none(features):
    """Weather that was known more than seven hours before departure says nothing."""
    assert features([DEPARTURE], [(hours_before(8), 60.0)])[0]["temp"] == 60
    assert features([DEPARTURE], [(hours_before(8.1), 60.0)])[0]["temp"] is None


def test_repeated_observations_give_one_row(features):
    """An hour that a station reports twice does not double the flight."""
    found = features([DEPARTURE, DEPARTURE], [(hours_before(3), 60.0), (hours_before(3), 61.0)])
    assert [row["row_id"] for row in found] == [0, 1]


def test_flights_without_weather_stay(features):
    """An airport without a station, and a flight without a time, keep their row."""
    assert features([DEPARTURE], [(hours_before(3), 60.0)], origin="XXX")[0]["temp"] is None
    found = features([None, DEPARTURE], [(hours_before(3), 60.0)])
    assert [row["temp"] for row in found] == [None, 60.0]
    assert len(features([DEPARTURE], [])) == 1


def test_broken_anemometer_is_unknown(features):
    """No wind blows at 1048 mph, so that observation counts as missing, and the rest of it stands."""
    found = features([DEPARTURE], [(hours_before(3), 60.0, 1048.36, 0.0)])[0]
    assert (found["wind_speed"], found["temp"]) == (None, 60.0)


def test_rain_adds_up_over_six_hours(features):
    """Rain of the last six known hours counts, older rain does not."""
    found = features([DEPARTURE], [(hours_before(h), 60.0, 5.0, 1.0) for h in range(2, 12)])[0]
    assert (found["precip"], found["precip_6h"]) == (1.0, 6.0)


def test_one_flight_scores_as_among_many(features):
    """A flight's features do not depend on the other rows, so that serving one is like training on thousands."""
    weather = [(hours_before(h), 50.0 + h, 8.0, 0.1) for h in range(-5, 9)]
    many = features([DEPARTURE, *(DEPARTURE + timedelta(minutes=17 * i) for i in range(1, 20))], weather)
    assert features([DEPARTURE], weather) == many[:1]


def test_times_on_the_way_wrap_at_midnight(features):
    """A flight that leaves late and lands the next afternoon has been some hours on the way, not a negative number."""
    found = features([DEPARTURE.replace(hour=23, minute=30)], [])[0]
    assert (found["departs_minute"], found["arrives_minute"], found["minutes_on_the_way"]) == (1410, 930, 960)


@pytest.mark.parametrize("leak", ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"])
def test_leaks_are_hidden_and_unused(pipeline, leak):
    """What is known only after departure is declared so, and the query does not ask for it."""
    assert leak in pipeline.spec.source.unknown_at_prediction
    assert not re.search(rf"\b{leak}\b", pipeline.sql)


def test_every_expectation_says_why(pipeline):
    """The suite explains itself: each expectation has a severity and a note for whoever meets its failure."""
    for expectation in pipeline.suite["expectations"]:
        assert expectation["severity"] in {"critical", "warning", "info"}
        assert len(expectation["meta"]["notes"]) > 20


def test_gates_can_refuse_a_first_model(pipeline):
    """Without a champion only bounds can refuse, and they would refuse one that tosses a coin."""
    bounds = {gate.metric: gate for gate in pipeline.spec.gates if isinstance(gate, BoundGate)}
    assert bounds["auc"].at_least > 0.5
    assert bounds["brier"].at_most <= 0.25


def test_files_read_well(pipeline):
    """The suite's JSON is UTF-8 without escapes, and the YAML names the schema for editors."""
    home = default_home()
    suite = (home / "suites" / "flights.json").read_text(encoding="utf-8")
    assert json.loads(suite)["name"] == "flights"
    first = (home / "pipelines" / "flight_delay.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=pipeline.schema.json"
