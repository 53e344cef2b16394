select e.event_id::text, e.stream, coalesce(e.key, ''), e.op, e.payload, e.headers
from tide.outbox_event e
join tide.outbox_part p on p.part = e.part
join tide.outbox o on o.id = p.outbox_id
where o.name = $1
order by e.id
