-- One row per offer in the answer to a search; how it stands among the others of that answer counts too.
SELECT
    row_id,
    device,
    words_matched,
    price / usual_price AS price_ratio,
    stars,
    rank() OVER (PARTITION BY dt, search ORDER BY price) AS cheaper_than_others
FROM rows
