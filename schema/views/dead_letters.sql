create or replace view tide.dead_letters as
select
    d.id,
    p.name as pipeline,
    d.event_id,
    d.stream,
    d.key,
    d.payload,
    d.body,
    d.headers,
    d.error,
    d.attempts,
    d.failed_at,
    d.op,
    d.event_type,
    d.source,
    d.published_at,
    d.destination,
    d.transport_headers,
    d.coordinates,
    d.retry_requested_at,
    d.holds_key
from tide.dead_letter d
join tide.pipeline p on p.id = d.pipeline_id;
comment on view tide.dead_letters is 'Events that a pipeline could not deliver, whole, with the reason; body holds what was not readable as JSON, attempts is 0 for an event that was parked behind another of its key, and holds_key says that later events of the key wait. Messages that an inbox''s workers gave up stay in the inbox, with dead_at set.';
