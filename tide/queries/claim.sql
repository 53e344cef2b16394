select id, event_id, source, stream, coalesce(key, ''), op, event_type, payload::text, headers::text, received_at, attempts, lease_token::text
from tide.inbox_claim($1::text, $2::text, $3::integer, $4::text::interval)
