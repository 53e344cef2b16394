select tide.inbox_mark_processed($1, $2::bigint[])
