-- One step of what has to be done from time to time.
select coalesce(m.outbox, '') as outbox, m.action, m.part, coalesce(m.detail, '') as detail
from tide.maintain() m
