select tide.inbox_complete($1, $2::text::uuid, $3)
