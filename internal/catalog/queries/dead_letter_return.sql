-- Puts a dead letter back that failed again, with the new error, while the
-- relay owns its pipeline. The request to retry it stays when it came after
-- the configuration that the letter was tried with, so that who mends and then
-- asks is not answered by what was before.
--
-- $1 pipeline, $2 relay, $3 fence, $4 id, $5 error, $6 version of the
-- configuration, 0 for any
with owned as materialized (
    select o.pipeline_id
    from tide.pipeline_owner o
    where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
        and coalesce(o.server_started_at, pg_postmaster_start_time()) = pg_postmaster_start_time()
    for share
),
returned as (
    update tide.dead_letter d
    set error = $5::text, attempts = d.attempts + 1, failed_at = clock_timestamp(),
        retry_requested_at = case
            when $6::bigint not in (0, p.version) or d.retry_requested_at > now() then d.retry_requested_at
        end
    from owned o
    join tide.pipeline p on p.id = o.pipeline_id
    where d.pipeline_id = o.pipeline_id and d.id = $4
)
select count(*) from owned
