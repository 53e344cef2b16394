select event_id, n, at, 'given up' from torture.discarded order by n
