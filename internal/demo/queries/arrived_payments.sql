select event_id, coalesce(payload ->> 'order_id', ''), coalesce((payload ->> 'seq')::bigint, 0)
from tide.payment_triggers_inbox
order by id
