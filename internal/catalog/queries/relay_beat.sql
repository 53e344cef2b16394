-- A heartbeat that finds nothing to do, in one statement: says that this relay
-- lives and returns what it owns, as pipeline_owned does. due says that the
-- long way must follow (relay_heartbeat, pipeline_claim, pipeline_owned), as it
-- must when there is no row: nobody alive owns some pipeline, the server is not
-- the one that something was taken in, or this relay was forgotten. All times
-- are the database's own.
--
-- $1 relay
with beat as (
    update tide.relay_instance i
    set heartbeat_at = clock_timestamp()
    where i.id = $1
    returning i.id
),
-- this statement does not see its own update
alive as materialized (
    select i.id, row_number() over (order by count(p.id) desc, i.id) as place
    from tide.relay_instance i
    left join tide.pipeline_owner o on o.relay_id = i.id
    left join tide.pipeline p on p.id = o.pipeline_id and p.enabled
    where i.heartbeat_at > clock_timestamp() - interval '7 seconds' or i.id = $1
    group by i.id
),
share as materialized (
    select enabled.pipelines / relays.n
           + case when a.place <= enabled.pipelines % relays.n then 1 else 0 end as pipelines
    from alive a
    cross join (select count(*) as n from alive) relays
    cross join (select count(*) as pipelines from tide.pipeline p where p.enabled) enabled
    where a.id = $1
),
long_way as materialized (
    select not exists (select from beat) or exists (
        select from tide.pipeline_owner o
        join tide.pipeline p on p.id = o.pipeline_id and p.enabled
        where o.relay_id is null or o.relay_id not in (select a.id from alive a)
            or o.relay_id = $1 and o.server_started_at is distinct from pg_postmaster_start_time()
    ) as due
),
owned as (
    select p.id, p.name, p.direction, coalesce(ob.name, ib.name) as endpoint, coalesce(ob.id, ib.id) as endpoint_id,
           n.database_id::text as database_id, p.config, p.version, o.fence,
           row_number() over (order by o.since, o.pipeline_id) > coalesce((select s.pipelines from share s), 0) as surplus,
           exists (select from tide.dead_letter d where d.pipeline_id = p.id) as letters,
           o.since
    from tide.pipeline_owner o
    join tide.pipeline p on p.id = o.pipeline_id and p.enabled
    left join tide.outbox ob on ob.id = p.outbox_id
    left join tide.inbox ib on ib.id = p.inbox_id
    cross join tide.node n
    where o.relay_id = $1
)
select w.due, o.id, o.name, o.direction, o.endpoint, o.endpoint_id, o.database_id, o.config, o.version, o.fence, o.surplus, o.letters
from long_way w
cross join owned o
order by o.since, o.id
