-- Claims pipelines that nobody alive owns, up to this relay's share of the
-- enabled ones, and counts the fence up: whatever the owner before still has
-- under way is refused from this commit on. A row that is locked, by a last
-- write or by another relay that is claiming, is left for the next time.
--
-- Shares differ by one at most: the remainder goes to those who own most, so
-- that nothing moves once it is even. pipeline_owned reckons alike.
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
           + case when a.place <= enabled.pipelines % relays.n then 1 else 0 end
           - (
               select count(*)
               from tide.pipeline_owner o
               join tide.pipeline p on p.id = o.pipeline_id and p.enabled
               where o.relay_id = $1
           ) as free
    from alive a
    cross join (select count(*) as n from alive) relays
    cross join (select count(*) as pipelines from tide.pipeline p where p.enabled) enabled
    where a.id = $1
),
chosen as (
    select o.pipeline_id
    from tide.pipeline_owner o
    join tide.pipeline p on p.id = o.pipeline_id and p.enabled
    where o.relay_id is null or o.relay_id not in (select a.id from alive a)
    order by o.pipeline_id
    limit coalesce((select greatest(s.free, 0) from share s), 0)
    for update of o skip locked
)
update tide.pipeline_owner o
set relay_id = $1,
    -- beyond all of an earlier run of the server, see relay_heartbeat
    fence = case
        when o.server_started_at is distinct from pg_postmaster_start_time()
        then greatest(o.fence + 1, (extract(epoch from pg_postmaster_start_time()) * 1000)::bigint)
        else o.fence + 1
    end,
    server_started_at = pg_postmaster_start_time(),
    since = clock_timestamp()
from chosen c
where o.pipeline_id = c.pipeline_id
