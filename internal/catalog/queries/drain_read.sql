-- One page of late rows, when they are more than a page holds: those of
-- given transactions, in order of id. All of them are committed, so what is
-- found does not depend on when one looks. Same columns and same commit as
-- page_read.
--
-- $1 pipeline, $2 relay, $3 fence, $4 outbox, $5 xids, $6 id drained so far,
-- $7 the position's last id, $8 greatest number of events, $9 of bytes
with owned as materialized (
    select
    from tide.pipeline_owner o
    where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
        and coalesce(o.server_started_at, pg_postmaster_start_time()) = pg_postmaster_start_time()
),
parts as materialized (
    select coalesce(array_agg(p.part order by p.part), '{}') as parts
    from tide.outbox_part p
    where p.outbox_id = $4
),
late as materialized (
    select f.*
    from (
        select l.*,
               sum(pg_column_size(l.payload)) over (order by l.id rows unbounded preceding)
                   - pg_column_size(l.payload) as bytes_before
        from unnest($5::xid8[]) as x (xid)
        cross join lateral (
            select e.id, e.event_id, e.stream, e.key, e.op, e.published_at, e.payload, e.headers, e.xid
            from tide.outbox_event e
            where e.part = any ('{0}')
                and (e.xid, e.id) > (x.xid, $6::bigint) and (e.xid, e.id) <= (x.xid, $7::bigint)
            order by e.xid, e.id
            limit $8::bigint
        ) l
        order by l.id
        limit $8::bigint
    ) f
    where f.bytes_before < $9::bigint
),
verdict as materialized (
    select (select p.parts = '{0}' from parts p) and exists (select from owned) as good
)
select null::bigint as id, null::uuid as event_id, null as stream, null as key, null as op, null as event_type,
       null::timestamptz as published_at, null::jsonb as payload, null::jsonb as headers,
       null::xid8 as xid,
       pg_current_snapshot()::text as snapshot,
       exists (select from owned) as owned,
       (select p.parts from parts p)::text as parts,
       false as overflow,
       case
           when v.good and exists (select from late) then
               concat(pg_current_xact_id(),
                      left(pg_logical_emit_message(true, 'pg_tide', '')::text, 0))
       end as bound
from verdict v
union all
select l.id, l.event_id, l.stream, l.key, l.op,
       coalesce(nullif(l.headers ->> 'event_type', ''), nullif(l.payload ->> 'event_type', ''), l.stream || '.' || l.op),
       l.published_at, l.payload, nullif(l.headers, '{}'), l.xid,
       null, null, null, null, null
from late l
where (select v.good from verdict v)
