-- What snapshot $3 sees and snapshot $2 did not. Rows at or below the node's
-- floor have xids of another history, which no snapshot can be asked about.
select e.id,
       e.published_at as at,
       e.event_id,
       e.stream,
       e.key,
       e.op,
       coalesce(e.headers ->> 'event_type', e.payload ->> 'event_type', e.stream || '.' || e.op) as event_type,
       e.payload,
       e.headers
from tide.outbox_event e
where e.part in (
          select p.part
          from tide.outbox_part p
          join tide.outbox o on o.id = p.outbox_id
          where o.name = $1::text
      )
  and e.xid >= pg_snapshot_xmin($2::text::pg_snapshot)
  and not pg_visible_in_snapshot(e.xid, $2::text::pg_snapshot)
  and pg_visible_in_snapshot(e.xid, $3::text::pg_snapshot)
  and e.id > greatest($4::text::bigint, (select n.floor_id from tide.node n))
  and ($5::interval = interval '0' or e.published_at >= clock_timestamp() - $5::interval)
order by e.id
limit $6
