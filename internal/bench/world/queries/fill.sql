-- Events of known size, without the work of publishing each.
--
-- $1 outbox, $2 first number, $3 last number, $4 bytes of payload
insert into tide.outbox_event (part, stream, op, key, payload, headers)
select o.part, o.name, 'insert', (g % 1000)::text, jsonb_build_object('n', g, 'text', repeat('x', $4::integer - 30)), '{}'
from tide.outbox o
cross join generate_series($2::integer, $3::integer) g
where o.name = $1
