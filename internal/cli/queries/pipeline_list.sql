select p.name as pipeline, p.direction, coalesce(c.outbox, c.inbox) as endpoint,
       coalesce(c.config ->> 'sink_type', c.config ->> 'source_type') as technology,
       p.enabled, p.version, c.config, p.created_at, p.updated_at
from tide.pipeline p
join jsonb_to_recordset(tide.relay_list_configs()) as c (name text, outbox text, inbox text, config jsonb) on c.name = p.name
order by p.name
