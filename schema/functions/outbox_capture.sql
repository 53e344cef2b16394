-- Capturing tables: inserts, updates and deletes become events.
--
-- These functions run with the caller's rights: only who owns a table may put
-- triggers on it, and PostgreSQL sees to that. What they write into
-- tide.outbox_capture goes through outbox_capture_set, which administrators of
-- tide may call, and nobody else.

-- The id of the capture whose triggers a table has; null when it has none.
create or replace function tide.outbox_capture_of(relation regclass) returns uuid
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select split_part(encode(t.tgargs, 'escape'), '\000', 1)::uuid
        from pg_trigger t
        where t.tgrelid = relation
            and t.tgfoid in ('tide.outbox_capture_changed()'::regprocedure, 'tide.outbox_capture_truncated()'::regprocedure)
        limit 1);
end
$$;
comment on function tide.outbox_capture_of(regclass) is
'The id of the capture whose triggers a table has.';

-- Refuses what cannot be captured; returns the columns of the key.
create or replace function tide.outbox_capture_check_table(relation regclass, options jsonb) returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    class record;
    keys  text[];
begin
    select c.relkind, c.relpersistence, c.relispartition, c.relowner, n.nspname into class
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = relation;
    if not found then
        raise exception using
            errcode = case when relation is null then '22004' else '42P01' end,
            message = format('table %s does not exist', coalesce(relation::oid::text, 'null')),
            hint = 'Name an existing table, for instance ''public.orders''.';
    end if;
    if class.relkind not in ('r', 'p') then
        perform tide.outbox_capture_refuse_option(relation,
            format('it is %s', case class.relkind when 'v' then 'a view' when 'm' then 'a materialized view' when 'f' then 'a foreign table' else 'no table' end),
            'Capture the tables that the data is written to, where they are.', '42809');
    end if;
    if class.nspname in ('pg_catalog', 'information_schema', 'tide') or class.relpersistence = 't' then
        perform tide.outbox_capture_refuse_option(relation, 'it is a temporary table, or one of the system or of tide',
            'Capture a table of your own.', '42809');
    end if;
    if class.relispartition then
        perform tide.outbox_capture_refuse_option(relation, format('it is a partition of "%s"', pg_partition_root(relation)::regclass),
            format('Capture that table: %s.', pg_partition_root(relation)::regclass), '42809');
    end if;
    if not pg_has_role(class.relowner, 'usage') then
        perform tide.outbox_capture_refuse_option(relation, format('role "%s" does not own it', current_user),
            format('Let its owner %I do so, who needs the role tide_admin too; or a member of both.', pg_get_userbyid(class.relowner)), '42501');
    end if;
    if jsonb_typeof(options -> 'key') = 'array' then
        keys := array(select jsonb_array_elements_text(options -> 'key'));
    elsif options ->> 'key' is not null then
        keys := array[options ->> 'key'];
    else
        keys := tide.outbox_capture_primary_key(relation);
    end if;
    if keys = '{}' then
        perform tide.outbox_capture_refuse_option(relation, 'it has no primary key',
            'Name the columns by which events keep their order: ''{"key": "order_id"}''. Or add a primary key.');
    end if;
    return keys;
end
$$;
comment on function tide.outbox_capture_check_table(regclass, jsonb) is
'Refuses a table that cannot be captured; the columns of its key.';

create or replace function tide.outbox_capture_primary_key(relation regclass) returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select a.attname::text
        from pg_index i
        cross join unnest(i.indkey::int2[]) with ordinality k (attnum, place)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where i.indrelid = relation and i.indisprimary and k.place <= i.indnkeyatts
        order by k.place)
$$;
comment on function tide.outbox_capture_primary_key(regclass) is
'The columns of a table''s primary key, in its order.';

-- Locks: SHARE ROW EXCLUSIVE on the table and its partitions: it waits for
-- those who write, and they wait for it.
create or replace function tide.outbox_capture("table" regclass, outbox text, options jsonb default '{}') returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    keys    text[] := tide.outbox_capture_check_table("table", options);
    named   jsonb;
    capture uuid;
    is_new  boolean;
    part    regclass;
begin
    -- Before the columns are looked at: nobody alters them from here on.
    execute format('lock table %s in share row exclusive mode', "table");
    named := tide.outbox_capture_check_options("table", options, keys);
    select s.capture, s.is_new into capture, is_new
    from tide.outbox_capture_set("table", outbox,
        coalesce(options ->> 'stream', (select c.relname::text from pg_class c where c.oid = "table")), keys, named, options) s;
    for part in
        -- Triggers of statements belong to the relation that the statement
        -- names: a partition that is written to by its own name has its own.
        select t.relid from pg_partition_tree("table") t join pg_class c on c.oid = t.relid and c.relkind in ('r', 'p')
        union
        select "table"
    loop
        perform tide.outbox_capture_triggers(part, capture, case
            when part <> "table" then 'partition'
            when (select c.relkind from pg_class c where c.oid = "table") = 'p' then 'partitioned'
        end);
    end loop;
    return is_new;
end
$$;
comment on function tide.outbox_capture(regclass, text, jsonb) is
'Publishes inserts, updates and deletes of a table to an outbox from now on; called again, changes how. Says whether the table was not captured before. See docs/capture.md for the options.
Example: select tide.outbox_capture(''orders'', ''order_events'', ''{"exclude": ["notes"], "mask": ["email"]}'');';

-- Makes a relation's triggers anew.
create or replace function tide.outbox_capture_triggers(relation regclass, capture uuid, role text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set client_min_messages = warning
as $$
declare
    arguments text := concat_ws(', ', quote_literal(capture), quote_literal(role));
    made      record;
begin
    for made in
        select *
        from (values
            ('tide_capture_began', 'before insert or update or delete', '', 'began'),
            ('tide_capture_insert', 'after insert', 'referencing new table as tide_rows', 'changed'),
            ('tide_capture_update', 'after update', 'referencing old table as tide_old new table as tide_rows', 'changed'),
            ('tide_capture_delete', 'after delete', 'referencing old table as tide_rows', 'changed'),
            ('tide_capture_truncate', 'before truncate', '', 'truncated'),
            ('tide_capture_truncated', 'after truncate', '', 'truncated')
        ) t (name, event, tables, routine)
    loop
        execute format('drop trigger if exists %I on %s', made.name, relation);
        execute format('create trigger %I %s on %s %s for each statement execute function tide.outbox_capture_%s(%s)',
            made.name, made.event, relation, made.tables, made.routine, arguments);
    end loop;
end
$$;
comment on function tide.outbox_capture_triggers(regclass, uuid, text) is
'Makes the triggers of a captured table or partition.';

-- Writes a capture's row. The outbox is locked against being dropped. How
-- columns become JSON is found out here, with the rights that the triggers
-- will have: nobody can hand it in.
create or replace function tide.outbox_capture_set(
    relation      regclass,
    outbox        text,
    stream        text,
    key_columns   text[],
    named_columns jsonb,
    options       jsonb,
    out capture   uuid,
    out is_new    boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target tide.outbox := tide.outbox_find(outbox);
    plan   record;
begin
    select r.names, r.types, r.kinds, r.lasting into plan from tide.outbox_capture_row(relation) r;
    capture := tide.outbox_capture_of(relation);
    is_new := not exists (select from tide.outbox_capture c where c.id = capture);
    capture := case when is_new then gen_random_uuid() else capture end;
    insert into tide.outbox_capture as c (id, outbox_id, table_name, stream, key_columns, named_columns, options, leave_out, mask,
        plan_names, plan_types, plan_kinds)
    values (capture, target.id, relation::text, outbox_capture_set.stream, outbox_capture_set.key_columns,
        outbox_capture_set.named_columns, outbox_capture_set.options,
        tide.outbox_capture_left_out(outbox_capture_set.options, plan.names), tide.outbox_capture_mask(outbox_capture_set.options, plan.names),
        case when plan.lasting then plan.names end, case when plan.lasting then plan.types end, case when plan.lasting then plan.kinds end)
    on conflict on constraint outbox_capture_pkey do update
    set outbox_id = excluded.outbox_id, table_name = excluded.table_name, stream = excluded.stream, key_columns = excluded.key_columns,
        named_columns = excluded.named_columns, options = excluded.options, leave_out = excluded.leave_out, mask = excluded.mask,
        plan_names = excluded.plan_names, plan_types = excluded.plan_types, plan_kinds = excluded.plan_kinds;
end
$$;
comment on function tide.outbox_capture_set(regclass, text, text, text[], jsonb, jsonb) is
'Writes the row of a capture.';

create or replace function tide.outbox_capture_forget(capture uuid) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from tide.outbox_capture c where c.id = capture;
    return found;
end
$$;
comment on function tide.outbox_capture_forget(uuid) is
'Removes the row of a capture.';

-- Locks: ACCESS EXCLUSIVE on the table and its partitions, as for any trigger
-- that is dropped.
create or replace function tide.outbox_capture_drop("table" regclass, if_exists boolean default false) returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    capture uuid := tide.outbox_capture_of("table");
    trigger record;
begin
    if capture is null then
        if if_exists then
            return false;
        end if;
        raise exception using
            errcode = '42704',
            message = format('table "%s" is not captured', coalesce("table"::text, 'null')),
            hint = 'tide.outbox_captures lists the tables that are.';
    end if;
    -- Also those of partitions that were detached.
    for trigger in
        select t.tgname, t.tgrelid::regclass as relation
        from pg_trigger t
        where t.tgfoid in ('tide.outbox_capture_began()'::regprocedure, 'tide.outbox_capture_changed()'::regprocedure,
                'tide.outbox_capture_truncated()'::regprocedure)
            and split_part(encode(t.tgargs, 'escape'), '\000', 1) = capture::text
        order by t.tgrelid <> "table", t.tgrelid, t.tgname
    loop
        execute format('drop trigger %I on %s', trigger.tgname, trigger.relation);
    end loop;
    perform tide.outbox_capture_forget(capture);
    return true;
end
$$;
comment on function tide.outbox_capture_drop(regclass, boolean) is
'Stops capturing a table; what was published stays in the outbox. Says whether it was captured.
Example: select tide.outbox_capture_drop(''orders'', if_exists => true);';
