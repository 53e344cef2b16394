-- Says that this relay lives. All times are the database's own.
--
-- $1 relay, $2 host, $3 pid, $4 version
insert into tide.relay_instance as i (id, host, pid, version)
values ($1, $2, $3, $4)
on conflict (id) do update
set heartbeat_at = clock_timestamp()
