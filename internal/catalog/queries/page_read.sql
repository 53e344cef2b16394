-- One page of an outbox. A single statement, so that the snapshot, the rows
-- and the check of the fence are one view; and a writing one when it finds
-- rows, so that its synchronous commit flushes the log past every publisher
-- whose commit it saw: what it returns cannot be taken back by a crash.
-- The first row holds the snapshot, then come late rows and fresh rows, in no
-- order: the parts of the outbox are read one after the other.
--
-- The bound is an xid assigned after the snapshot was taken: transactions
-- from it on draw ids greater than any that this statement saw.
-- When there are more late rows than a page holds, no row is returned and
-- overflow is true. Row comparisons keep the planner on the index over
-- (xid, id): with a plain order by id it would walk the whole backlog.
-- See page_settings for the transaction that it runs in.
-- The parts of the outbox stand in the text, as '{0}', because a parameter
-- would lock every partition at each execution.
--
-- $1 pipeline, $2 relay, $3 fence, $4 outbox, $5 xids in progress at the
-- position, $6 its floor, $7 its last id, $8 its xmax, $9 its bound,
-- $10 greatest number of events, $11 of bytes
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
    select l.*
    from unnest($5::xid8[]) as x (xid)
    cross join lateral (
        select e.id, e.event_id, e.stream, e.key, e.op, e.published_at, e.payload, e.headers, e.xid
        from tide.outbox_event e
        where e.part = any ('{0}')
            and (e.xid, e.id) > (x.xid, $6::bigint) and (e.xid, e.id) <= (x.xid, $7::bigint)
        order by e.xid, e.id
        limit $10::bigint + 1
    ) l
    union all
    (
        select e.id, e.event_id, e.stream, e.key, e.op, e.published_at, e.payload, e.headers, e.xid
        from tide.outbox_event e
        where e.part = any ('{0}')
            and e.xid >= $8::xid8 and e.xid < $9::xid8 and e.id > $6::bigint and e.id <= $7::bigint
        order by e.xid, e.id
        limit $10::bigint + 1
    )
),
-- How far the page goes. Nothing of a payload is copied for it, and sizes are
-- added up one by one only where they are too much together.
reach as materialized (
    select e.id, pg_column_size(e.payload) as bytes
    from tide.outbox_event e
    where e.part = any ('{0}') and e.id > $7::bigint
    order by e.id
    limit $10::bigint
),
fresh as materialized (
    select case
        when s.bytes <= $11::bigint then s.id
        else (
            select max(f.id)
            from (
                select r.id, sum(r.bytes) over (order by r.id rows unbounded preceding) - r.bytes as bytes_before
                from reach r
            ) f
            where f.bytes_before < $11::bigint)
        end as last_id
    from (select max(r.id) as id, sum(r.bytes) as bytes from reach r) s
),
verdict as materialized (
    select v.overflow,
           not v.overflow and (select p.parts = '{0}' from parts p) and exists (select from owned) as good
    from (
        select count(*) > $10::bigint or (count(*) > 1 and sum(pg_column_size(l.payload)) > $11::bigint) as overflow
        from late l
    ) v
)
select null::bigint as id, null::uuid as event_id, null as stream, null as key, null as op, null as event_type,
       null::timestamptz as published_at, null::jsonb as payload, null::jsonb as headers,
       null::xid8 as xid,
       pg_current_snapshot()::text as snapshot,
       exists (select from owned) as owned,
       (select p.parts from parts p)::text as parts,
       v.overflow,
       case
           when v.good and (exists (select from late) or (select f.last_id is not null from fresh f)) then
               concat(pg_current_xact_id(),
                      left(pg_logical_emit_message(true, 'pg_tide', '')::text, 0))
       end as bound
from verdict v
union all
select r.id, r.event_id, r.stream, r.key, r.op,
       coalesce(nullif(r.headers ->> 'event_type', ''), nullif(r.payload ->> 'event_type', ''), r.stream || '.' || r.op),
       r.published_at, r.payload, nullif(r.headers, '{}'), r.xid,
       null, null, null, null, null
from late r
where (select v.good from verdict v)
union all
select r.id, r.event_id, r.stream, r.key, r.op,
       coalesce(nullif(r.headers ->> 'event_type', ''), nullif(r.payload ->> 'event_type', ''), r.stream || '.' || r.op),
       r.published_at, r.payload, nullif(r.headers, '{}'), r.xid,
       null, null, null, null, null
from tide.outbox_event r
where r.part = any ('{0}') and r.id > $7::bigint and r.id <= (select f.last_id from fresh f)
    and (select v.good from verdict v)
