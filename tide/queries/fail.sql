select tide.inbox_fail($1::text, $2::text::uuid, $3::text::bigint[], $4::text, $5::text::interval, $6::boolean)
