-- One row per subscriber whose term ends on the day.
SELECT
    row_id,
    "Plan Name" AS plan,
    months,
    calls,
    price::DOUBLE AS price,
    "auto-renew" AS auto_renew,
    dt - last_login AS days_away,
    "never filled" AS never_filled
FROM rows
