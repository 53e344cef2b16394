-- Inserts a batch in the order of the arrays, skips event ids that are known,
-- and notifies the workers once. The share lock keeps a new owner from taking
-- over before the commit; what counts is 0 owners or 1.
-- The relation of the inbox stands in the text: its unique key is its own.
--
-- $1 pipeline, $2 relay, $3 fence, $4 inbox, $5 channel, $6 to $13 one array for each column
with owned as materialized (
    select o.pipeline_id
    from tide.pipeline_owner o
    where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
        and coalesce(o.server_started_at, pg_postmaster_start_time()) = pg_postmaster_start_time()
    for share
),
added as (
    insert into tide."{0}_inbox" as i (inbox_id, event_id, source, stream, key, op, event_type, payload, headers)
    select $4::integer, m.event_id, m.source, m.stream, nullif(m.key, ''), m.op, m.event_type, m.payload::jsonb, m.headers::jsonb
    from unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[])
        with ordinality as m (event_id, source, stream, key, op, event_type, payload, headers, place)
    where exists (select from owned)
    order by m.place
    on conflict (inbox_id, event_id) do nothing
    returning i.id
)
select (select count(*) from owned) as owners,
       c.added,
       case when c.added > 0 then pg_notify($5::text, '') end
from (select count(*) as added from added) c
