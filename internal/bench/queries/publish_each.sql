-- $1 events, $2 payload
select count(tide.outbox_publish('orders', 'orders', $2, key => (g % 100)::text))
from generate_series(1, $1::integer) g
