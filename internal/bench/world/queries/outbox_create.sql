select tide.outbox_create($1)
