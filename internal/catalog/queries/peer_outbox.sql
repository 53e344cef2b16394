-- Whether there is an outbox of that name that takes events.
select o.enabled
from tide.outbox o
where o.name = $1::text
