select array_to_string(tide.outbox_publish_many($1::text, $2::text::jsonb[], $3::text::text[], $4::text::jsonb[], $5::text::text[], $6::text::text[], $7::text::uuid[]), ',')
