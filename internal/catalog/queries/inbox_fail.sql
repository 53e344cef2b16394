select tide.inbox_fail($1, $2::text::uuid, array[$3::bigint], $4, $5 * interval '1 second', $6)
