insert into by_hand_inbox (event_id, source, stream, key, op, event_type, payload)
select m.event_id, m.source, m.stream, nullif(m.key, ''), m.op, m.event_type, m.payload::jsonb
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    as m (event_id, source, stream, key, op, event_type, payload)
on conflict (event_id) do nothing
