select pipeline, coalesce(event_id, coordinates, ''), error from tide.dead_letters order by id limit 100
