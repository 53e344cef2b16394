select tide.inbox_create($1)
