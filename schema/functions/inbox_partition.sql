-- The relation "<name>_inbox", its three partitions, and those of its memory.

-- Locks: SHARE UPDATE EXCLUSIVE on tide.inbox_message and tide.inbox_memory;
-- for an inbox of version 1.0, ACCESS EXCLUSIVE on tide.inbox_message.
create or replace function tide.inbox_create_partition(inbox_id integer, leaf text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass(format('tide.%I', leaf)) is not null then
        perform tide.inbox_convert_partition(inbox_id, leaf);
    end if;
    insert into tide.inbox_rotation (inbox_id) values (inbox_create_partition.inbox_id);
    execute format('create table tide.%I (like tide.inbox_message including defaults including constraints)
        partition by list (part)', leaf);
    for part in 0..2 loop
        perform tide.inbox_create_part(inbox_id, part, leaf);
    end loop;
    execute tide.inbox_delete_trigger(leaf);
    execute format('alter table tide.inbox_message attach partition tide.%I for values in (%s)', leaf, inbox_id);
    execute format('comment on table tide.%I is %L', leaf,
        'Messages of one inbox of pg_tide. Mark them with tide.inbox_mark_processed and tide.inbox_mark_failed.');
    perform tide.copy_grants('tide.inbox_message', format('tide.%I', leaf)::regclass);
    perform tide.extension_release(inbox_id, leaf);
end
$$;
comment on function tide.inbox_create_partition(integer, text) is
'Makes the relation that holds the messages of one inbox, and its memory.';

-- One of the three partitions, and of the memory's three.
create or replace function tide.inbox_create_part(inbox_id integer, part integer, leaf text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    messages text := format('inbox_message_%s_%s', inbox_id, part);
    memory   text := format('inbox_memory_%s_%s', inbox_id, part);
begin
    if to_regclass('tide.' || messages) is null then
        execute format('create table tide.%I (like tide.inbox_message including defaults including constraints)', messages);
        execute format('alter table tide.%I
            add constraint %I primary key (inbox_id, id), add constraint %I unique (inbox_id, event_id)',
            messages, messages || '_pkey', messages || '_event_id_key');
        -- Written so that the planner has no statistics for it: those of a time when
        -- nothing was pending would make it read and sort a whole backlog.
        execute format('create index %I on tide.%I (id) where num_nonnulls(processed_at, dead_at) < 1', messages || '_pending_idx', messages);
        execute format('create index %I on tide.%I (id) where dead_at is not null', messages || '_dead_idx', messages);
    end if;
    perform tide.inbox_create_lease_indexes(inbox_id, messages);
    execute tide.inbox_delete_trigger(messages);
    execute format('create trigger remember_truncated before truncate on tide.%I
        when (current_setting(''tide.moving'', true) is distinct from ''on'')
        execute function tide.inbox_remember_truncated()', messages);
    execute format('alter table tide.%I attach partition tide.%I for values in (%s)', leaf, messages, part);
    perform tide.copy_grants('tide.inbox_message', format('tide.%I', messages)::regclass);

    execute format('create table tide.%I (like tide.inbox_memory including constraints)', memory);
    execute format('create index %I on tide.%I (event)', memory || '_idx', memory);
    execute format('alter table tide.inbox_memory attach partition tide.%I for values from (%s, %s) to (%s, %s)',
        memory, inbox_id, part, inbox_id, part + 1);
    perform tide.copy_grants('tide.inbox_memory', format('tide.%I', memory)::regclass);

    insert into tide.inbox_part (inbox_id, kind, part, opened_at)
    select inbox_create_part.inbox_id, k.kind, inbox_create_part.part,
           case when k.kind = 'messages' and inbox_create_part.part = 0 then clock_timestamp() end
    from unnest(array['messages', 'memory']) k (kind);
end
$$;
comment on function tide.inbox_create_part(integer, integer, text) is
'Makes one of the three partitions of an inbox, and of its memory.';

-- What tide.inbox_claim looks for: messages that were never claimed; and those
-- that a lease or a pause holds back, by when that ends. Where the order of
-- keys is kept also which keys are held back, by a pause and by a lease, of
-- which a key has one: two workers of whom neither sees what the other takes
-- meet in that unique index. A row is in as few of them as possible, since
-- each claim makes an entry in each.
create or replace function tide.inbox_create_lease_indexes(inbox_id integer, messages text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Written so that the planner has no statistics for it, as the pending ones' index is.
    execute format('create index if not exists %I on tide.%I (id)
        where num_nonnulls(processed_at, dead_at, next_attempt_at) < 1', messages || '_ready_idx', messages);
    execute format('create index if not exists %I on tide.%I (next_attempt_at)
        where next_attempt_at is not null and num_nonnulls(processed_at, dead_at) < 1', messages || '_due_idx', messages);
    if (select i.ordered from tide.inbox i where i.id = inbox_create_lease_indexes.inbox_id) then
        execute format('create index if not exists %I on tide.%I (key, id)
            where next_attempt_at is not null and lease_token is null and num_nonnulls(processed_at, dead_at) < 1',
            messages || '_held_idx', messages);
        execute format('create unique index if not exists %I on tide.%I (key) where lease_token is not null',
            messages || '_leased_idx', messages);
    end if;
end
$$;
comment on function tide.inbox_create_lease_indexes(integer, text) is
'Makes the indexes of an inbox''s partition that workers'' leases need.';

-- The trigger that keeps the event ids of deleted messages. It fires for the
-- relation that a statement names, so each that may be named has it.
create or replace function tide.inbox_delete_trigger(relation text) returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format('create or replace trigger remember_deleted after delete on tide.%I
        referencing old table as gone
        when (current_setting(''tide.moving'', true) is distinct from ''on'')
        execute function tide.inbox_remember_deleted()', relation)
$$;
comment on function tide.inbox_delete_trigger(text) is
'The statement that makes the trigger which keeps event ids of deleted messages.';

-- The one partition that an inbox of version 1.0 has becomes the first of the
-- three: renamed, with everything in it. What others built upon it would go
-- along with it and miss the messages of the other two, so that is refused.
create or replace function tide.inbox_convert_partition(inbox_id integer, leaf text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    relation regclass := format('tide.%I', leaf);
    part     text := format('inbox_message_%s_0', inbox_id);
    used_by  text;
    entry    record;
begin
    select string_agg(distinct pg_describe_object(d.classid, d.objid, 0), ', ') into used_by
    from (
        select coalesce(case when d.classid = 'pg_rewrite'::regclass then 'pg_class'::regclass end, d.classid) as classid,
               coalesce((select r.ev_class from pg_rewrite r where d.classid = 'pg_rewrite'::regclass and r.oid = d.objid), d.objid) as objid
        from pg_depend d
        where d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.deptype = 'n'
    ) d;
    if used_by is not null then
        raise exception using
            errcode = '2BP01',
            message = format('relation tide."%s" cannot get its partitions: %s depends on it', leaf, used_by),
            hint = 'Drop that, upgrade, and create it again.';
    end if;
    execute format('alter table tide.inbox_message detach partition %s', relation);
    execute format('alter table %s rename to %I', relation, part);
    execute format('drop index tide.%I', (
        select c.relname
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        where i.indrelid = to_regclass('tide.' || part)
            and pg_get_expr(i.indpred, i.indrelid) like '%next_attempt_at IS NOT NULL%'));
    for entry in
        select i.indexrelid::regclass as index,
               part || case
                   when i.indisprimary then '_pkey'
                   when i.indisunique then '_event_id_key'
                   when pg_get_expr(i.indpred, i.indrelid) like '%num_nonnulls%' then '_pending_idx'
                   else '_dead_idx' end as name
        from pg_index i
        where i.indrelid = to_regclass('tide.' || part)
    loop
        execute format('alter index %s rename to %I', entry.index, entry.name);
    end loop;
    execute format('comment on table tide.%I is null', part);
end
$$;
comment on function tide.inbox_convert_partition(integer, text) is
'Makes the single partition of an inbox of version 1.0 the first of three.';

-- What is made while the extension's script runs becomes a member of it, and
-- a dump would leave it out. Partitions are none, however they were made.
create or replace function tide.extension_release(inbox_id integer, leaf text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    member regclass;
begin
    for member in
        select d.objid
        from pg_depend d
        join pg_extension e on e.oid = d.refobjid and d.refclassid = 'pg_extension'::regclass
        where e.extname = 'pg_tide' and d.deptype = 'e' and d.classid = 'pg_class'::regclass
            and d.objid in (
                select t.relid from pg_partition_tree(format('tide.%I', leaf)::regclass) t
                union all
                select to_regclass(format('tide.inbox_memory_%s_%s', inbox_id, part)) from generate_series(0, 2) part)
        order by d.objid
    loop
        execute format('alter extension pg_tide drop table %s', member);
    end loop;
end
$$;
comment on function tide.extension_release(integer, text) is
'Takes the partitions of an inbox out of the extension, so that dumps have them whole.';
