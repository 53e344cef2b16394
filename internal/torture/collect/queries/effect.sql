select event_id, n, at, 'worker ' || worker from torture.effect order by n
