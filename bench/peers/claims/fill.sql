-- Messages, each with a key, which are in order of arrival.
--
-- $1 messages, $2 bytes of payload
insert into tide.inbox_message (inbox_id, part, event_id, source, stream, key, op, event_type, payload)
select i.id, r.part, gen_random_uuid(), '/peers/orders', 'orders', (g % 100000)::text, 'insert', 'orders.insert',
       jsonb_build_object('n', g, 'text', repeat('x', $2::integer - 30))
from tide.inbox i
join tide.inbox_rotation r on r.inbox_id = i.id
cross join generate_series(1, $1::integer) g
