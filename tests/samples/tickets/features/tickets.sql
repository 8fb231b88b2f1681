-- One row per ticket; `customer` is an object within the row.
SELECT
    row_id,
    channel,
    customer.plan AS plan,
    customer.seats AS seats,
    words,
    open_invoices,
    errors_last_day,
    hour(created::TIMESTAMP) AS hour
FROM rows
