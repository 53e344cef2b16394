-- Inserts a batch into the inbox of another database as inbox_insert.sql does
-- into one of the relay's own, where its comments are. There is no owner to
-- check: nobody owns the pipeline there. Whoever comes late with what its
-- successor has delivered finds all of it known.
--
-- What it inserts survives a crash there, since the position here will say that
-- it was delivered: a database whose commits do not wait for the disk does so now.
--
-- $1 to $3 are not used, so that the parameters are the same.
with owned as materialized (
    select $1::bigint, $2::text, $3::bigint,
           case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'local', true) end
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
)
select (select count(*) from owned) as owners,
       c.added,
       case when c.added > 0 then pg_notify($5::text, '') end,
       case when c.added > 0 then (select tide.inbox_leave($4::integer, e.version) from entered e) end
from (select count(*) as added from added) c
