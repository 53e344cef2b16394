-- What this relay owns, and what of it is more than its share, reckoned as
-- pipeline_claim does: those that it has had for the shortest time. It releases
-- them once they have stopped. Also those that it has not started: another
-- relay may have come since pipeline_claim, in the same transaction, and what
-- is neither run nor named here would have an owner for ever and run nowhere.
--
-- $1 relay
with alive as materialized (
    select i.id, row_number() over (order by count(p.id) desc, i.id) as place
    from tide.relay_instance i
    left join tide.pipeline_owner o on o.relay_id = i.id
    left join tide.pipeline p on p.id = o.pipeline_id and p.enabled
    where i.heartbeat_at > clock_timestamp() - interval '7 seconds'
    group by i.id
),
share as materialized (
    select enabled.pipelines / relays.n
           + case when a.place <= enabled.pipelines % relays.n then 1 else 0 end as pipelines
    from alive a
    cross join (select count(*) as n from alive) relays
    cross join (select count(*) as pipelines from tide.pipeline p where p.enabled) enabled
    where a.id = $1
)
select p.id, p.name, p.direction, coalesce(ob.name, ib.name) as endpoint, coalesce(ob.id, ib.id) as endpoint_id,
       n.database_id::text, p.config, p.version, o.fence,
       row_number() over (order by o.since, o.pipeline_id) > coalesce((select s.pipelines from share s), 0) as surplus,
       exists (select from tide.dead_letter d where d.pipeline_id = p.id) as letters
from tide.pipeline_owner o
join tide.pipeline p on p.id = o.pipeline_id and p.enabled
left join tide.outbox ob on ob.id = p.outbox_id
left join tide.inbox ib on ib.id = p.inbox_id
cross join tide.node n
where o.relay_id = $1
order by o.since, o.pipeline_id
