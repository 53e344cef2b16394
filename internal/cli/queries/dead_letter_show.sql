-- The body is base64, as in the JSON of most languages.
select d.id, d.pipeline, d.event_id, d.source, d.stream, d.key, d.op, d.event_type, d.published_at, d.destination,
       d.payload, d.headers, replace(encode(d.body, 'base64'), E'\n', '') as body, d.transport_headers, d.coordinates,
       d.error, d.attempts, d.failed_at, d.retry_requested_at
from tide.dead_letters d
where d.id = $1
