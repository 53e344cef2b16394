-- How large each outbox is and what keeps it from being emptied. Index probes
-- only; cheap enough to be asked every few seconds.
create or replace view tide.outbox_retention as
select
    o.name as outbox,
    o.retention,
    r.partitions,
    r.bytes,
    o.warn_bytes,
    coalesce(h.held_by, '{}') as held_by,
    h.held_since
from tide.outbox o
cross join lateral (
    select count(*) as partitions,
           sum(pg_total_relation_size(format('tide.%I', 'outbox_event_' || p.part)::regclass))::bigint as bytes,
           array_agg(p.part) as parts
    from tide.outbox_part p
    where p.outbox_id = o.id
) r
cross join lateral (
    select array_agg(l.name order by w.oldest, l.name) as held_by, min(w.oldest) + o.retention as held_since
    from tide.pipeline l
    cross join lateral tide.pipeline_oldest(l.id, r.parts) w (oldest)
    where l.outbox_id = o.id and w.oldest + o.retention < clock_timestamp()
) h;
comment on view tide.outbox_retention is 'How large each outbox is, and which pipelines hold back its retention.';
comment on column tide.outbox_retention.bytes is 'Size on disk of all its partitions, with their indexes.';
comment on column tide.outbox_retention.warn_bytes is 'Above this the size is reported as a problem; tide.outbox_set changes it.';
comment on column tide.outbox_retention.held_by is 'Pipelines, paused ones too, that have not delivered an event which is older than the retention; the one furthest behind comes first.';
comment on column tide.outbox_retention.held_since is 'When the oldest of those events grew older than the retention.';
