-- How large the outboxes are, and which pipelines hold back their retention.
select r.outbox,
       extract(epoch from r.retention)::double precision as retention_seconds,
       r.bytes,
       r.warn_bytes,
       r.held_by,
       r.held_since,
       coalesce(greatest(0, extract(epoch from clock_timestamp() - r.held_since)), 0)::double precision as held_seconds
from tide.outbox_retention r
order by r.outbox
