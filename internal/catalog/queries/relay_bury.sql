-- Forgets relays that have been dead for a while. What they owned may be
-- claimed much earlier, after seven seconds of silence.
delete from tide.relay_instance i
where i.heartbeat_at < clock_timestamp() - interval '1 hour'
