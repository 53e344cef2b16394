select i.name as inbox, i.pending, i.delayed, i.in_flight, i.dead, i.processed, i.exact, i.oldest_age_seconds, i.bytes,
       i.max_attempts, i.retention, i.ordered, i.pipelines
from jsonb_to_recordset(tide.inbox_status()) as i (
    name text, pending bigint, delayed bigint, in_flight bigint, dead bigint, processed bigint, exact boolean, oldest_age_seconds numeric,
    bytes bigint, max_attempts integer, retention interval, ordered boolean, pipelines jsonb)
order by i.name
