-- Where a pipeline's reader starts: the saved position (nulls when there is
-- none), what the database is, and the outbox with its parts; and whether it
-- may start there.
--
-- $1 pipeline, $2 outbox
select n.incarnation as node_incarnation, n.floor_id as node_floor_id, n.database_id::text as database_id,
       o.name as outbox,
       array(
           select p.part
           from tide.outbox_part p
           where p.outbox_id = o.id
           order by p.part
       ) as parts,
       s.seq, s.snapshot::text as snapshot, s.last_id, s.bound, s.floor_id,
       s.drain_snapshot::text as drain_snapshot, s.drain_id, s.incarnation, s.mark::text as mark,
       l.name as pipeline, l.incarnation >= n.incarnation as adopted, tide.position_beyond(s) as beyond
from tide.node n
left join tide.outbox o on o.id = $2
left join tide.pipeline l on l.id = $1
left join lateral (
    select p.*
    from tide.pipeline_position p
    where p.pipeline_id = $1
    order by p.seq desc
    limit 1
) s on true
