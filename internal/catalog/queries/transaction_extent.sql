-- How far transactions reach that have events in an outbox: how many they
-- published, the first and the last id, and their bytes as stored. Counting
-- ends behind a limit, for a huge transaction must not be walked at each page;
-- its last id is then not known.
--
-- All of a transaction's events become visible at once, and this runs after a
-- statement that saw one: what it finds cannot change any more. A range of ids
-- keeps apart transactions of different histories that have the same xid.
--
-- $1 xids, $2 the ids of their events are greater than this, $3 and at most
-- this, $4 greatest number of events to count
select x.xid, t.events, t.first_id, t.last_id, t.bytes
from unnest($1::xid8[]) as x (xid)
cross join lateral (
    select count(*) as events, coalesce(min(f.id), 0) as first_id, coalesce(max(f.id), 0) as last_id,
           coalesce(sum(f.bytes), 0)::bigint as bytes
    from (
        select e.id, pg_column_size(e.payload) + pg_column_size(e.headers) as bytes
        from tide.outbox_event e
        where e.part = any ('{0}')
            and (e.xid, e.id) > (x.xid, $2::bigint) and (e.xid, e.id) <= (x.xid, $3::bigint)
        order by e.xid, e.id
        limit $4::bigint + 1
    ) f
) t
