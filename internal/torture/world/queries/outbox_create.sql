select tide.outbox_create($1, coalesce($2::interval, interval '1 day'))
