-- $1 first number, $2 last number, $3 bytes of payload
insert into tide.outbox_event (part, stream, op, key, payload, headers)
select o.part, o.name, 'insert', (g % 1000)::text, jsonb_build_object('n', g, 'text', repeat('x', $3::integer - 30)), '{}'
from tide.outbox o
cross join generate_series($1::integer, $2::integer) g
where o.name = 'orders'
