-- $1 events, $2 payload
insert into by_hand (stream, key, payload)
select 'orders', (g % 100)::text, $2::jsonb
from generate_series(1, $1::integer) g
