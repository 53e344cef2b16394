-- Messages for the current part of the inbox, whose ids begin with the time as those of an outbox do.
--
-- $1 first number, $2 last number, $3 bytes of payload
insert into tide.inbox_message (inbox_id, part, event_id, source, stream, key, op, event_type, payload)
select i.id, r.part, encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
           placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid, '/bench/orders', 'orders', (g % 100000)::text, 'insert', 'orders.insert',
       jsonb_build_object('n', g, 'text', repeat('x', $3::integer - 30))
from tide.inbox i
join tide.inbox_rotation r on r.inbox_id = i.id
cross join generate_series($1::integer, $2::integer) g
where i.name = 'arrived'
