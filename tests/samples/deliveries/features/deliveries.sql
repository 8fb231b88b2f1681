-- One row per parcel, as it is known when the tour begins.
SELECT row_id, vehicle, kilometres, stops, hour, rain_mm, isodow(dt) AS weekday FROM rows
