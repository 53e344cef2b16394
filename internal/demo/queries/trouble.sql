select pipeline, state, coalesce(reason, last_error, '')
from tide.relay_status
where state <> 'running' or reason is not null
order by pipeline
