select m.id, m.event_id, m.source, m.stream, coalesce(m.key, ''), m.op, m.event_type, m.payload, m.headers, m.received_at, m.attempts
from tide.{inbox} m
order by m.id
