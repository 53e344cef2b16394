-- An unknown name is refused by relay_get_config, which suggests the nearest.
select c.direction, coalesce(c.outbox, ''), c.config::text
from jsonb_to_record(tide.relay_get_config($1::text)) as c (direction text, outbox text, config jsonb)
