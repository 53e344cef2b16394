select tide.inbox_mark_processed('arrived', $1::bigint[])
