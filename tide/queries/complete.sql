select tide.inbox_complete($1::text, $2::text::uuid, $3::text::bigint[])
