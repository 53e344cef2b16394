-- The transactions whose late rows have to be drained: seen by the round's
-- snapshot ($7, or now when null) and not by the position's. One statement,
-- so that the snapshot and the transactions are one view.
--
-- $1 xids in progress at the position, $2 its floor, $3 its last id,
-- $4 its xmax, $5 its bound, $6 true when the round's snapshot is of another history
select coalesce($7::pg_snapshot, pg_current_snapshot())::text as snapshot,
       coalesce(array_agg(t.xid), '{}') as xids
from (
    select x.xid
    from unnest($1::xid8[]) as x (xid)
    where exists (
        select
        from tide.outbox_event e
        where e.part = any ('{0}')
            and (e.xid, e.id) > (x.xid, $2::bigint) and (e.xid, e.id) <= (x.xid, $3::bigint)
    )
    union all
    (
        select distinct e.xid
        from tide.outbox_event e
        where e.part = any ('{0}')
            and e.xid >= $4::xid8 and e.xid < $5::xid8 and e.id > $2::bigint and e.id <= $3::bigint
    )
) t
where $6::boolean or $7::pg_snapshot is null or pg_visible_in_snapshot(t.xid, $7::pg_snapshot)
