-- One row per meter and hour.
SELECT
    row_id,
    meter,
    tariff,
    outside_celsius,
    hour(read_at) AS hour,
    isodow(dt) AS weekday,
    cos(2 * pi() * dayofyear(dt) / 365.25) AS season
FROM rows
