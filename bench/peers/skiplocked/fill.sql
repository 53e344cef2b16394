-- $1 first number, $2 last number, $3 bytes of payload
insert into outbox (key, payload)
select (g % 1000)::text, jsonb_build_object('n', g, 'text', repeat('x', $3::integer - 30))
from generate_series($1::integer, $2::integer) g
