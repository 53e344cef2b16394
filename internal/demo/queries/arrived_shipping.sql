select event_id, coalesce(payload ->> 'order_id', payload ->> 'sku', ''), coalesce((payload ->> 'seq')::bigint, 0)
from tide.shipping_triggers_inbox
order by id
