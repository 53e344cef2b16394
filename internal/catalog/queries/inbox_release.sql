select tide.inbox_release($1, $2::text::uuid, $3, $4 * interval '1 second')
