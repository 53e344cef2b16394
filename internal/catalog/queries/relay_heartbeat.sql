-- Says that this relay lives. All times are the database's own.
--
-- What it owns it took in one run of one server. After a restart, or when a
-- standby was promoted in the server's place, it takes that anew: sessions of
-- before are refused, since what they hold in memory may not be in this log.
-- The number then grows beyond any that a lost log can have held, for those
-- began at an earlier start: otherwise a number that was refused there could
-- come back here and would be refused for ever.
--
-- $1 relay, $2 host, $3 pid, $4 version
with anew as (
    update tide.pipeline_owner o
    set fence = greatest(o.fence + 1, (extract(epoch from pg_postmaster_start_time()) * 1000)::bigint),
        server_started_at = pg_postmaster_start_time(),
        since = clock_timestamp()
    where o.relay_id = $1 and o.server_started_at is distinct from pg_postmaster_start_time()
)
insert into tide.relay_instance as i (id, host, pid, version)
values ($1, $2, $3, $4)
on conflict (id) do update
set heartbeat_at = clock_timestamp()
