-- Claims pipelines that nobody alive owns, up to this relay's fair share of
-- the enabled ones, and counts the fence up: whatever the owner before still
-- has under way is refused from this commit on. A row that is locked, by a
-- last write or by another relay that is claiming, is left for the next time.
--
-- $1 relay
with alive as materialized (
    select i.id
    from tide.relay_instance i
    where i.heartbeat_at > clock_timestamp() - interval '8 seconds'
),
share as materialized (
    select ceil(count(*)::numeric / greatest((select count(*) from alive), 1))
           - (
               select count(*)
               from tide.pipeline_owner o
               join tide.pipeline p on p.id = o.pipeline_id and p.enabled
               where o.relay_id = $1
           ) as free
    from tide.pipeline p
    where p.enabled
),
chosen as (
    select o.pipeline_id
    from tide.pipeline_owner o
    join tide.pipeline p on p.id = o.pipeline_id and p.enabled
    where (o.relay_id is null or o.relay_id not in (select a.id from alive a))
        and exists (select from alive a where a.id = $1)
    order by o.pipeline_id
    limit (select greatest(s.free, 0) from share s)
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
