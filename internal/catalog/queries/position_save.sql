-- Saves a position as the next in the sequence, if the relay still owns the
-- pipeline. Two savers collide on the primary key. The share lock keeps a new
-- owner from taking over between the check and the commit: it would read the
-- position before this one and send again what this one acknowledges.
--
-- It need not wait for the disk: every transaction that the position knows to
-- be completed has its record in the log before this one's, so a crash takes
-- back the save whole and the events after it are sent again.
--
-- $1 pipeline, $2 relay, $3 fence, $4 seq, $5 snapshot, $6 last id, $7 bound,
-- $8 floor, $9 drain snapshot, $10 drain id, $11 incarnation, $12 mark
insert into tide.pipeline_position
    (pipeline_id, seq, snapshot, last_id, bound, floor_id, drain_snapshot, drain_id, incarnation, mark)
select o.pipeline_id, $4::bigint, $5::text::pg_snapshot, $6::bigint, $7::xid8, $8::bigint,
       $9::text::pg_snapshot, $10::bigint, $11::integer, $12::text::jsonb
from tide.pipeline_owner o
cross join set_config('synchronous_commit', 'off', true)
where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
    and coalesce(o.server_started_at, pg_postmaster_start_time()) = pg_postmaster_start_time()
for share of o
