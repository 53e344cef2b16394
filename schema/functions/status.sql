-- What waits where. Counts are exact up to 100,000 and estimated above, so
-- that asking stays cheap with a large backlog. No lock.

-- The events of a pipeline's outbox that were not delivered yet, as far as its
-- saved position says: those above last_id, and below it those that the
-- position's snapshot did not see.
create or replace function tide.pipeline_pending(
    pipeline_id  integer,
    out events   bigint,
    out exact    boolean,
    out oldest   timestamptz
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    parts   text;
    saved   tide.pipeline_position;
    greatest_counted bigint;
    greatest_id      bigint;
    behind        bigint := 0;
    behind_oldest timestamptz;
begin
    select array_agg(p.part)::text into parts
    from tide.pipeline l
    join tide.outbox_part p on p.outbox_id = l.outbox_id
    where l.id = pipeline_pending.pipeline_id;
    if parts is null then
        return;
    end if;
    select s.* into saved
    from tide.pipeline_position s
    where s.pipeline_id = pipeline_pending.pipeline_id
    order by s.seq desc
    limit 1;

    -- The partitions' numbers stand in the text, for the planner to leave out the others.
    execute format(
        'select count(*), min(t.published_at), max(t.id)
        from (select e.id, e.published_at
              from tide.outbox_event e
              where e.part = any(%L) and e.id > $1
              order by e.id
              limit 100001) t', parts)
    into events, oldest, greatest_counted
    using coalesce(saved.last_id, 0);
    exact := events <= 100000;
    if not exact then
        execute format('select max(e.id) from tide.outbox_event e where e.part = any(%L)', parts) into greatest_id;
        events := events + (greatest_id - greatest_counted)
            * (events::double precision / (greatest_counted - coalesce(saved.last_id, 0)));
    end if;

    if saved.snapshot is not null then
        execute format(
            'select count(*), min(t.published_at)
            from (select e.published_at
                  from tide.outbox_event e
                  where e.part = any(%L)
                      and e.id > $1 and e.id <= $2
                      and (e.xid = any(array(select pg_snapshot_xip($3))) or e.xid >= pg_snapshot_xmax($3) and e.xid < $4)
                      and not coalesce(e.id <= $6 and pg_visible_in_snapshot(e.xid, $5), false)
                  limit 100001) t', parts)
        into behind, behind_oldest
        using saved.floor_id, saved.last_id, saved.snapshot, saved.bound, saved.drain_snapshot, saved.drain_id;
        events := events + behind;
        exact := exact and behind <= 100000;
        oldest := least(oldest, behind_oldest);
    end if;
end
$$;
comment on function tide.pipeline_pending(integer) is
'How many events a forward pipeline has not delivered yet, whether that is exact, and since when the oldest waits.';

create or replace function tide.outbox_status(name text default null) returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    status jsonb;
begin
    if name is null then
        return (select coalesce(jsonb_agg(tide.outbox_describe(o) order by o.name), '[]') from tide.outbox o);
    end if;
    select tide.outbox_describe(o) into status from tide.outbox o where o.name = outbox_status.name;
    if not found then
        perform tide.refuse_unknown('outbox', name, array(select o.name from tide.outbox o));
    end if;
    return status;
end
$$;
comment on function tide.outbox_status(text) is
'An outbox as JSON: events retained, pending for each pipeline, age of the oldest, bytes, which pipelines hold back the retention and since when, a warning when it is larger than warn_bytes; without a name an array of all. Counts above 100,000 are estimates, and the field beside them says so.
Example: select jsonb_pretty(tide.outbox_status(''order_events''));';

create or replace function tide.outbox_describe(outbox tide.outbox) returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    parts     integer[] := array(select p.part from tide.outbox_part p where p.outbox_id = outbox.id order by p.part);
    retained  bigint;
    estimated bigint;
    bytes     bigint;
    oldest    timestamptz;
    holders   jsonb;
begin
    execute format('select count(*) from (select from tide.outbox_event e where e.part = any(%L) limit 100001) t', parts::text)
    into retained;
    execute format('select e.published_at from tide.outbox_event e where e.part = any(%L) order by e.id limit 1', parts::text)
    into oldest;
    select sum(greatest(c.reltuples, 0))::bigint, sum(pg_total_relation_size(c.oid))::bigint into estimated, bytes
    from unnest(parts) part
    join pg_class c on c.oid = to_regclass(format('tide.%I', 'outbox_event_' || part));
    select coalesce(jsonb_agg(jsonb_build_object(
        'pipeline', p.name,
        'since', w.oldest + outbox.retention,
        'paused', not p.enabled) order by w.oldest, p.name), '[]') into holders
    from tide.pipeline p
    cross join lateral tide.pipeline_oldest(p.id, parts) w (oldest)
    where p.outbox_id = outbox.id and w.oldest + outbox.retention < clock_timestamp();
    return jsonb_build_object(
        'name', outbox.name,
        'enabled', outbox.enabled,
        'retention', outbox.retention,
        'retained', case when retained > 100000 then greatest(retained, estimated) else retained end,
        'retained_exact', retained <= 100000,
        'oldest_age_seconds', round(extract(epoch from clock_timestamp() - oldest)::numeric, 3),
        'bytes', bytes,
        'warn_bytes', outbox.warn_bytes,
        'partitions', cardinality(parts),
        'held_by', holders,
        'warning', case when bytes > outbox.warn_bytes then format('the outbox has %s, more than its limit of %s%s',
            pg_size_pretty(bytes), pg_size_pretty(outbox.warn_bytes),
            case when holders <> '[]' then format('; pipeline "%s" holds back its retention since %s',
                holders -> 0 ->> 'pipeline', holders -> 0 ->> 'since') end) end,
        'pipelines', (
            select coalesce(jsonb_agg(jsonb_build_object(
                'name', p.name, 'pending', w.events, 'pending_exact', w.exact) order by p.name), '[]')
            from tide.pipeline p
            cross join tide.pipeline_pending(p.id) w
            where p.outbox_id = outbox.id));
end
$$;
comment on function tide.outbox_describe(tide.outbox) is
'An outbox as JSON.';

create or replace function tide.inbox_status(name text default null) returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null then
        return (select coalesce(jsonb_agg(tide.inbox_describe(i) order by i.name), '[]') from tide.inbox i);
    end if;
    return (select tide.inbox_describe(i) from tide.inbox i where i.id = tide.inbox_id(inbox_status.name));
end
$$;
comment on function tide.inbox_status(text) is
'An inbox as JSON: messages pending, of these delayed after a failure and in flight with a worker, dead, processed, age of the oldest pending, bytes; its parts, and how many event ids it remembers of messages that are cleaned; without a name an array of all. Counts stop at 100,001, and the field exact says so.
Example: select jsonb_pretty(tide.inbox_status(''payment_triggers''));';

create or replace function tide.inbox_describe(inbox tide.inbox) returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    leaf      text := format('tide.%I', inbox.name || '_inbox');
    pending   bigint;
    delayed   bigint;
    in_flight bigint;
    dead      bigint;
    processed bigint;
    oldest    timestamptz;
begin
    execute format(
        'select count(*), count(*) filter (where t.next_attempt_at > now() and t.lease_token is null),
            count(*) filter (where t.next_attempt_at > now() and t.lease_token is not null), min(t.received_at)
        from (select m.next_attempt_at, m.lease_token, m.received_at
              from %s m
              where num_nonnulls(m.processed_at, m.dead_at) < 1
              order by m.id
              limit 100001) t', leaf)
    into pending, delayed, in_flight, oldest;
    execute format('select count(*) from (select from %s m where m.dead_at is not null limit 100001) t', leaf) into dead;
    execute format('select count(*) from (select from %s m where m.processed_at is not null limit 100001) t', leaf) into processed;
    return jsonb_build_object(
        'name', inbox.name,
        'max_attempts', inbox.max_attempts,
        'retention', inbox.retention,
        'ordered', inbox.ordered,
        'pending', pending,
        'delayed', delayed,
        'in_flight', in_flight,
        'dead', dead,
        'processed', processed,
        'exact', greatest(pending, dead, processed) <= 100000,
        'oldest_age_seconds', round(extract(epoch from clock_timestamp() - oldest)::numeric, 3),
        'bytes', (select sum(pg_total_relation_size(t.relid)) from pg_partition_tree(leaf::regclass) t),
        'parts', (
            select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                'part', p.part,
                'opened_at', p.opened_at,
                'closed_at', p.closed_at,
                'cleaning_waits_since', p.waiting_since,
                'bytes', pg_total_relation_size(format('tide.inbox_message_%s_%s', p.inbox_id, p.part)::regclass)))
                order by p.opened_at)
            from tide.inbox_part p
            where p.inbox_id = inbox.id and p.kind = 'messages' and p.opened_at is not null),
        'memory', tide.inbox_describe_memory(inbox.id),
        'pipelines', (
            select coalesce(jsonb_agg(p.name order by p.name), '[]')
            from tide.pipeline p
            where p.inbox_id = inbox.id));
end
$$;
comment on function tide.inbox_describe(tide.inbox) is
'An inbox as JSON.';

-- Event ids of messages that are gone.
create or replace function tide.inbox_describe_memory(inbox_id integer) returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    counted   bigint;
    estimated bigint;
    bytes     bigint;
    oldest    timestamptz;
begin
    execute format('select count(*) from (select from tide.inbox_memory m where m.inbox_id = %s limit 100001) t', inbox_id) into counted;
    select sum(greatest(c.reltuples, 0))::bigint, sum(pg_total_relation_size(c.oid)), min(p.opened_at)
    into estimated, bytes, oldest
    from tide.inbox_part p
    join pg_class c on c.oid = to_regclass(format('tide.inbox_memory_%s_%s', p.inbox_id, p.part))
    where p.inbox_id = inbox_describe_memory.inbox_id and p.kind = 'memory' and p.opened_at is not null;
    return jsonb_build_object(
        'event_ids', case when counted > 100000 then greatest(counted, estimated) else counted end,
        'exact', counted <= 100000,
        'bytes', coalesce(bytes, 0),
        'since', oldest);
end
$$;
comment on function tide.inbox_describe_memory(integer) is
'What an inbox remembers, as JSON.';
