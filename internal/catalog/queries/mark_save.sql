-- Saves how far the source is durably taken in, as the next in the sequence, if
-- the relay still owns the pipeline. It waits for the disk: the source is told
-- after it, and what the source was told must be here. Older ones go from time
-- to time, by a statement of their own: one that mostly does nothing is planned
-- with each save, since a plan for its parameters looks cheaper than one for all.
--
-- $1 pipeline, $2 relay, $3 fence, $4 seq, $5 origin, $6 sequence, $7 delivery,
-- $8 places, or null
insert into tide.pipeline_mark (pipeline_id, seq, origin, sequence, delivery, places, timeline)
select o.pipeline_id, $4::bigint, $5::text, $6::text::numeric, $7::text::numeric, $8::jsonb, n.timeline
from tide.pipeline_owner o
cross join tide.node n
where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
    and coalesce(o.server_started_at, pg_postmaster_start_time()) = pg_postmaster_start_time()
for share of o
