-- $1 events, $2 payload
select cardinality(tide.outbox_publish_many('orders', array_agg($2::jsonb), array['orders'], keys => array_agg((g % 100)::text)))
from generate_series(1, $1::integer) g
