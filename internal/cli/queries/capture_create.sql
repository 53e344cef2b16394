select tide.outbox_capture($1::bigint::oid::regclass, $2::text, $3::jsonb)
