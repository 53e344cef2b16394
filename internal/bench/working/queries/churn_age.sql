-- Lets half of the retention pass for what cleans the inbox.
update tide.inbox_part p
set opened_at = p.opened_at - i.retention / 2, closed_at = p.closed_at - i.retention / 2
from tide.inbox i
where i.id = p.inbox_id and i.name = 'arrived'
