select tide.outbox_publish($1::text, $2::text, $3::text::jsonb, $4::text::jsonb, $5::text, $6::text, $7::text::uuid)::text
