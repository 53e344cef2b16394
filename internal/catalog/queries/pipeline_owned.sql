-- What this relay owns and may keep: not more than its fair share. The ones
-- that it has had for the shortest time are left out; it releases them once
-- they have stopped.
--
-- $1 relay
with share as materialized (
    select ceil(count(*)::numeric / greatest((
               select count(*)
               from tide.relay_instance i
               where i.heartbeat_at > clock_timestamp() - interval '8 seconds'
           ), 1))::bigint as pipelines
    from tide.pipeline p
    where p.enabled
)
select p.id, p.name, p.direction, coalesce(ob.name, ib.name) as endpoint, coalesce(ob.id, ib.id) as endpoint_id,
       n.database_id::text, p.config, p.version, o.fence
from tide.pipeline_owner o
join tide.pipeline p on p.id = o.pipeline_id and p.enabled
left join tide.outbox ob on ob.id = p.outbox_id
left join tide.inbox ib on ib.id = p.inbox_id
cross join tide.node n
where o.relay_id = $1
order by o.since, o.pipeline_id
limit (select s.pipelines from share s)
