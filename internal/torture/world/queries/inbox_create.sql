select tide.inbox_create($1, retention => coalesce($2::interval, interval '7 days'))
