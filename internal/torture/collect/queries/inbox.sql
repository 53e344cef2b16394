select event_id, id, received_at,
       coalesce('processed ' || processed_at::text, 'pending') || coalesce(', dead ' || dead_at::text, '')
           || case when attempts > 0 then ', ' || attempts || ' failures' else '' end
from %s
order by id
