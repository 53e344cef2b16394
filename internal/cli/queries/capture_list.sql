select v."table", v.outbox, v.stream, v.state, v.reason, array_to_string(v.key_columns, ', ') as key, v.options,
       v.backfill, v.backfill_rows, v.backfill_total
from tide.outbox_captures v
order by v."table"
