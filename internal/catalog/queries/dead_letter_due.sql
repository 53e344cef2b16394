-- Dead letters of a pipeline that are to be tried again, oldest first: those
-- that somebody asked for. In order, none behind one of its key that holds the
-- key and that nobody asked for, but also those that were only parked behind
-- others, once these are gone or asked for.
--
-- $1 pipeline, $2 greatest number, $3 in order
with requested as (
    select d.id
    from tide.dead_letter d
    where d.pipeline_id = $1 and d.retry_requested_at is not null
      and not ($3::boolean and exists (
          select from tide.dead_letter h
          where h.pipeline_id = d.pipeline_id and h.key = d.key and h.id < d.id
            and h.holds_key and h.attempts > 0 and h.retry_requested_at is null))
    order by d.id
    limit $2
),
parked as (
    select d.id
    from tide.dead_letter d
    where $3::boolean and d.pipeline_id = $1 and d.holds_key and d.attempts = 0
      and not exists (
          select from tide.dead_letter h
          where h.pipeline_id = d.pipeline_id and h.key = d.key and h.id < d.id
            and h.holds_key and h.attempts > 0 and h.retry_requested_at is null)
    order by d.id
    limit $2
)
select d.id, coalesce(d.event_id, ''), coalesce(d.outbox_id, 0), coalesce(d.source, ''), coalesce(d.stream, ''),
       coalesce(d.key, ''), coalesce(d.op, ''), coalesce(d.event_type, ''), d.published_at, coalesce(d.destination, ''),
       d.payload::text, d.headers::text, d.body, d.transport_headers::text, coalesce(d.coordinates, ''),
       d.error, d.attempts, d.holds_key
from tide.dead_letter d
where d.id in (select r.id from requested r union select p.id from parked p)
order by d.id
limit $2
