select m.id, m.event_id, m.source, m.stream, m.key, m.op, m.event_type, m.payload, m.headers, m.received_at, m.attempts,
       m.next_attempt_at, m.leased_by as worker, m.processed_at, m.dead_at, m.last_error as error
from tide.inbox_message m
where m.inbox_id = (select tide.inbox_id($1::text)) and m.id = $2
