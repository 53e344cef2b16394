-- Inserts a batch in the order of the arrays, skips event ids that are known,
-- and notifies the workers once. The share lock keeps a new owner from taking
-- over before the commit; what counts is 0 owners or 1.
-- Where messages go and which are known outside that part, tide.inbox_enter
-- says; within it the unique index does. tide.inbox_leave fails when messages
-- were removed meanwhile.
--
-- The rows come as unnest returns them, and draw their ids so: nothing sorts or
-- hashes between. A column whose values are all the same has one element, the
-- other rows get null from unnest. "on conflict" is left out where no repeat is
-- expected: it looks into each unique index twice.
--
-- $1 pipeline, $2 relay, $3 fence, $4 inbox, $5 channel, $6 to $13 one array for each column,
-- $14 and $15 the times of the oldest and the newest event; $16 to $20 the mark that
-- is true with this batch, as in mark_save.sql: seq, origin, sequence, delivery, places.
-- Without one these and "marked" are left out.
with owned as materialized (
    select o.pipeline_id
    from tide.pipeline_owner o
    where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
        and coalesce(o.server_started_at, pg_postmaster_start_time()) = pg_postmaster_start_time()
    for share
),
entered as materialized (
    select e.part, e.known, e.version
    from owned
    cross join lateral tide.inbox_enter($4::integer, $6::text[], $14::timestamptz, $15::timestamptz) e
),
added as (
    insert into tide."{0}_inbox" (inbox_id, part, event_id, source, stream, key, op, event_type, payload, headers)
    select $4::integer, e.part, m.event_id, coalesce(m.source, ($7::text[])[1]), coalesce(m.stream, ($8::text[])[1]),
           nullif(m.key, ''), coalesce(m.op, ($10::text[])[1]), coalesce(m.event_type, ($11::text[])[1]),
           m.payload::jsonb, coalesce(m.headers, ($13::text[])[1])::jsonb
    from entered e
    cross join unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[])
        with ordinality as m (event_id, source, stream, key, op, event_type, payload, headers, place)
    where e.known is null or not e.known[m.place]
    on conflict do nothing
    returning 1
),
marked as (
    insert into tide.pipeline_mark (pipeline_id, seq, origin, sequence, delivery, places, timeline)
    select o.pipeline_id, $16::bigint, $17::text, $18::text::numeric, $19::text::numeric, $20::jsonb, n.timeline
    from owned o
    cross join tide.node n
)
select (select count(*) from owned) as owners,
       c.added,
       case when c.added > 0 then pg_notify($5::text, '') end,
       case when c.added > 0 then (select tide.inbox_leave($4::integer, e.version) from entered e) end
from (select count(*) as added from added) c
