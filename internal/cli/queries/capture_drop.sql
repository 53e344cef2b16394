select tide.outbox_capture_drop($1::bigint::oid::regclass)
