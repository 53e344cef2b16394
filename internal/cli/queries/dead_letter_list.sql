select d.id, d.pipeline, d.event_id, d.stream, d.key, d.op, d.event_type, d.payload, d.headers,
       d.error, d.attempts, d.failed_at, d.retry_requested_at
from tide.dead_letters d
where $1::text is null or d.pipeline = $1::text
order by d.id desc
limit $2
