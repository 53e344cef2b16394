-- Gives up everything, in one statement, and tells the others.
--
-- $1 relay
with gone as (
    delete from tide.relay_instance i
    where i.id = $1
),
released as (
    update tide.pipeline_owner o
    set relay_id = null, since = clock_timestamp()
    where o.relay_id = $1
    returning o.pipeline_id
)
select pg_notify('tide_relay', p.name)
from released r
join tide.pipeline p on p.id = r.pipeline_id
