select v."table", v.outbox, v.stream, v.state, v.reason, v.key_columns, v.options, v.backfill, v.backfill_rows, v.backfill_total,
       v.backfill_started_at, v.backfill_finished_at, v.created_at
from tide.outbox_captures v
where v."table"::text = coalesce(to_regclass($1::text)::text, $1::text)
