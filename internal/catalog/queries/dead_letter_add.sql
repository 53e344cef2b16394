-- Adds a dead letter. The same one again changes its error and attempts only,
-- and nothing when this time it was parked and not attempted: its own error
-- says more.
--
-- $1 pipeline, $2 relay, $3 fence, then the columns
insert into tide.dead_letter as d
    (pipeline_id, identity, event_id, outbox_id, source, stream, key, op, event_type, published_at, destination,
     payload, headers, body, transport_headers, coordinates, error, attempts, holds_key)
select o.pipeline_id, $4::text, nullif($5::text, ''), nullif($6::bigint, 0), nullif($7::text, ''), nullif($8::text, ''),
       nullif($9::text, ''), nullif($10::text, ''), nullif($11::text, ''), $12::timestamptz, nullif($13::text, ''),
       $14::text::jsonb, $15::text::jsonb, $16::bytea, $17::text::jsonb, nullif($18::text, ''), $19::text, $20::integer,
       $21::boolean
from tide.pipeline_owner o
where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
    and coalesce(o.server_started_at, pg_postmaster_start_time()) = pg_postmaster_start_time()
for share of o
on conflict (pipeline_id, identity) do update
set error = case when excluded.attempts > 0 then excluded.error else d.error end,
    attempts = case when excluded.attempts > 0 then excluded.attempts else d.attempts end,
    failed_at = case when excluded.attempts > 0 then clock_timestamp() else d.failed_at end,
    holds_key = d.holds_key or excluded.holds_key
