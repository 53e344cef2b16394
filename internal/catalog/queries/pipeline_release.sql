-- Gives up a pipeline that has stopped, and tells the others.
--
-- $1 pipeline, $2 relay, $3 fence
with released as (
    update tide.pipeline_owner o
    set relay_id = null, since = clock_timestamp()
    where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
    returning o.pipeline_id
)
select pg_notify('tide_relay', p.name)
from released r
join tide.pipeline p on p.id = r.pipeline_id
