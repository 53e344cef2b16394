select c.id, c.lease_token::text, c.attempts, c.event_id, coalesce(c.source, ''), coalesce(c.stream, ''), coalesce(c.key, ''), c.op,
    coalesce(c.event_type, ''), c.payload::text, c.headers::text, c.received_at
from tide.inbox_claim($1, $2, $3, $4 * interval '1 second') c
