-- One step of cleaning an inbox.
select coalesce(m ->> 'inbox', '') as inbox,
       coalesce(m ->> 'step', '') as step,
       coalesce(m #>> '{waiting,0,inbox}', '') as waiting,
       coalesce(extract(epoch from clock_timestamp() - (m #>> '{waiting,0,since}')::timestamptz), 0)::double precision as waited
from tide.inbox_maintain() m
