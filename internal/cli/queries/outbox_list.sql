select o.name as outbox, o.enabled, o.retention, o.retained, o.retained_exact, o.oldest_age_seconds, o.bytes, o.pipelines
from jsonb_to_recordset(tide.outbox_status()) as o (
    name text, enabled boolean, retention interval, retained bigint, retained_exact boolean,
    oldest_age_seconds numeric, bytes bigint, pipelines jsonb)
order by o.name
