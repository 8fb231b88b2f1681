-- One row per flight, with what is known an hour before it is scheduled to leave.
--
-- `rows` are the flights without the columns of `unknown_at_prediction`, with `row_id` and `dt` (the local day) added;
-- `weather` is the side table of that name. DuckDB runs this one query for training, evaluation, batch scoring and
-- serving alike. So a feature may look at its own row and at the weather, never at other rows: one flight alone must
-- get the score that it gets among a thousand. Text becomes a category, all else a number; NULL is fine for XGBoost.

WITH
flights AS (
    SELECT
        *,
        time_hour + to_minutes(minute) AS departs_at,  -- by the schedule, UTC
        hour * 60 + minute AS departs_minute,  -- on the local clock
        sched_arr_time // 100 * 60 + sched_arr_time % 100 AS arrives_minute  -- 1745 means 17:45 at the destination
    FROM rows
),

-- One observation per airport and hour, should a station or a corrected file repeat one. What was measured during an
-- hour is known when the hour is over, not before. A broken anemometer said 1048 mph; no station ever measured 250.
observed AS (
    SELECT
        origin,
        time_hour + INTERVAL 1 HOUR AS known_at,
        max(temp) AS temp,
        max(dewp) AS dewp,
        max(humid) AS humid,
        max(wind_speed) FILTER (wind_speed < 250) AS wind_speed,
        max(wind_gust) FILTER (wind_gust < 250) AS wind_gust,
        max(precip) AS precip,
        min(visib) AS visib,
        min(pressure) AS pressure
    FROM weather
    GROUP BY origin, time_hour
),

-- Rain and fog of the last six hours: queues outlast the weather that made them.
recent AS (
    SELECT
        *,
        sum(precip) OVER six_hours AS precip_6h,
        min(visib) OVER six_hours AS visib_6h
    FROM observed
    WINDOW six_hours AS (
        PARTITION BY origin ORDER BY known_at RANGE BETWEEN INTERVAL 5 HOURS PRECEDING AND CURRENT ROW
    )
),

-- The newest that was known an hour before departure; what is older than six hours by then says nothing any more.
latest AS (
    SELECT
        flights.row_id,
        recent.*
    FROM flights
    ASOF JOIN recent
        ON flights.origin = recent.origin
        AND flights.departs_at - INTERVAL 1 HOUR >= recent.known_at
    WHERE flights.departs_at - INTERVAL 7 HOURS <= recent.known_at
)

SELECT
    flights.row_id,

    -- Who flies where.
    flights.carrier,
    flights.origin,
    flights.dest,
    flights.distance,

    -- When, by the schedule. Minutes on the way are between two local clocks, which the distance tells apart.
    isodow(flights.dt) AS weekday,
    flights.departs_minute,
    flights.arrives_minute,
    (flights.arrives_minute - flights.departs_minute + 1440) % 1440 AS minutes_on_the_way,

    -- In which weather.
    latest.temp,
    latest.dewp,
    latest.humid,
    latest.wind_speed,
    latest.wind_gust,
    latest.precip,
    latest.precip_6h,
    latest.visib,
    latest.visib_6h,
    latest.pressure
FROM flights
LEFT JOIN latest ON flights.row_id = latest.row_id  -- flights without weather stay
ORDER BY flights.row_id
