select id, event_id::text, key, published_at, payload::text
from tide.outbox_event_1
where id > $1
order by id
limit $2
