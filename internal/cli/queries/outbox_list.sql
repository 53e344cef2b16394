-- The outboxes, and in note what an operator should know of their retention.
select o.name as outbox, o.enabled, o.retention, o.retained, o.retained_exact, o.oldest_age_seconds, o.bytes, o.warn_bytes, o.partitions,
       coalesce(o.warning, h.sentence) as note, o.held_by, o.pipelines
from jsonb_to_recordset(tide.outbox_status()) as o (
    name text, enabled boolean, retention interval, retained bigint, retained_exact boolean, oldest_age_seconds numeric,
    bytes bigint, warn_bytes bigint, partitions integer, warning text, held_by jsonb, pipelines jsonb)
left join lateral (
    select format('pipeline "%s" holds back its retention since %s', f.pipeline, date_trunc('second', f.since)) as sentence
    from jsonb_to_record(o.held_by -> 0) as f (pipeline text, since timestamptz)
    where o.held_by <> '[]'
) h on true
order by o.name
