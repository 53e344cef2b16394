select id, event_id, coalesce(payload ->> 'order_id', payload ->> 'sku', ''), coalesce((payload ->> 'seq')::bigint, 0),
       coalesce(payload ->> 'event_type', ''), received_at
from tide.inbox_pending($1)
limit 100
