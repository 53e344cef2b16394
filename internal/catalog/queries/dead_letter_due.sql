-- Dead letters of a pipeline that somebody asked to try again, oldest first.
--
-- $1 pipeline, $2 greatest number
select d.id, coalesce(d.event_id, ''), coalesce(d.outbox_id, 0), coalesce(d.source, ''), coalesce(d.stream, ''),
       coalesce(d.key, ''), coalesce(d.op, ''), coalesce(d.event_type, ''), d.published_at, coalesce(d.destination, ''),
       d.payload::text, d.headers::text, d.body, d.transport_headers::text, coalesce(d.coordinates, ''),
       d.error, d.attempts
from tide.dead_letter d
where d.pipeline_id = $1 and d.retry_requested_at is not null
order by d.id
limit $2
