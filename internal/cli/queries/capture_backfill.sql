select b.rows, b.done, b.total, b.finished from tide.outbox_capture_backfill($1::bigint::oid::regclass, $2::integer, $3::boolean) b
