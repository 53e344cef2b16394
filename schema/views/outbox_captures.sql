-- The captured tables. A capture belongs to the table that has its triggers,
-- whatever the table's name is now.
create or replace view tide.outbox_captures as
select
    coalesce(r.relation::text, c.table_name) as "table",
    o.name as outbox,
    case
        when r.relation is null then 'stopped'
        when not r.enabled then 'stopped'
        when not o.enabled then 'blocked'
        when m.columns is not null then 'blocked'
        when p.partitions is not null then 'partial'
        else 'capturing'
    end as state,
    case
        when r.relation is null then 'the table is gone, or its triggers are: capture it again'
        when not r.enabled then 'triggers of the table are disabled: alter table … enable trigger'
        when not o.enabled then format('outbox "%s" is disabled, so writes to the table fail', o.name)
        when m.columns is not null then format('column %s is gone or renamed: capture the table again', m.columns)
        when p.partitions is not null then format('statements that name partition %s are not captured: capture the table again', p.partitions)
    end as reason,
    c.stream,
    c.key_columns,
    c.options,
    case
        when c.backfill_started_at is null then 'none'
        when c.backfill_finished_at is null then 'running'
        else 'finished'
    end as backfill,
    c.backfill_rows,
    c.backfill_total,
    c.backfill_started_at,
    c.backfill_finished_at,
    c.created_at
from tide.outbox_capture c
join tide.outbox o on o.id = c.outbox_id
left join lateral (
    select t.tgrelid::regclass as relation, bool_and(t.tgenabled in ('O', 'A')) as enabled
    from pg_trigger t
    join pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'tide'::regnamespace and f.proname = 'outbox_capture_changed'
    where encode(t.tgargs, 'escape') in (c.id || '\000', c.id || '\000partitioned\000')
    group by t.tgrelid
    limit 1
) r on true
cross join lateral (
    select string_agg(format('"%s"', n.key), ', ' order by n.key) as columns
    from jsonb_each(c.named_columns) n
    where r.relation is not null
        and not exists (
            select from pg_attribute a
            where a.attrelid = r.relation
                and (a.attname = n.key or a.attnum = n.value::text::smallint and a.attisdropped and n.key <> all(c.key_columns)))
) m
cross join lateral (
    select string_agg(format('"%s"', q.relid), ', ' order by q.relid) as partitions
    from pg_partition_tree(r.relation) q
    join pg_class k on k.oid = q.relid and k.relkind in ('r', 'p')
    where not exists (
        select from pg_trigger t
        join pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'tide'::regnamespace and f.proname = 'outbox_capture_changed'
        where t.tgrelid = q.relid)
        and q.relid <> r.relation
) p;
comment on view tide.outbox_captures is
'The captured tables: into which outbox, how, whether that works and if not why, and how far the backfill is.';
comment on column tide.outbox_captures.state is
'capturing; partial: some partitions are not captured when a statement names them; blocked: writes to the table fail; stopped: nothing is captured.';
