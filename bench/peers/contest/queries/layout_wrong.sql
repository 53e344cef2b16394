select coalesce(array_agg(l.id || ' ' || coalesce(to_jsonb(i) #>> '{}', 'is missing')), '{}')
from layout l
left join tide.arrived_inbox i on i.event_id = l.id::text
where i.event_id is null
   or i.stream <> l.aggregatetype
   or i.key is distinct from l.aggregateid
   or i.event_type <> l.aggregatetype || '.insert'
   or i.payload::text <> l.payload::text
   or i.headers <> '{}'
