-- Messages of known size, without the work of carrying each. Event ids begin with
-- the time, as those of an outbox do.
--
-- $1 inbox, $2 first number, $3 last number, $4 bytes of payload, $5 whether they are processed
insert into tide.inbox_message (inbox_id, part, event_id, source, stream, key, op, event_type, payload, processed_at)
select i.id, r.part, encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
           placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid, '/bench/orders', 'orders', (g % 100000)::text, 'insert', 'orders.insert',
       jsonb_build_object('n', g, 'text', repeat('x', $4::integer - 30)), case when $5::boolean then clock_timestamp() end
from tide.inbox i
join tide.inbox_rotation r on r.inbox_id = i.id
cross join generate_series($2::integer, $3::integer) g
where i.name = $1
