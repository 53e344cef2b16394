-- The triggers of captured tables.
--
-- Who runs what. These functions run with the rights of the schema's owner,
-- maybe a superuser's, whoever writes to the table; so nothing in them may run
-- code that the table's owner or its users can choose:
--
-- - "when" is a JSON path: a language without functions of users. Options are
--   data everywhere; no text of theirs becomes SQL.
-- - to_jsonb calls the cast to json of a type that has one, and whoever owns a
--   type may give it one. It is applied to trusted types only
--   (tide.outbox_capture_row); other values go through format, which calls
--   the type's output function, and only superusers can make one. The look at
--   the types holds for the whole statement, since the writer's lock keeps
--   anybody from altering the table; a look at the casts would not, for a cast
--   can be made at any moment.
-- - The search_path is pinned, and transition tables hide relations of their
--   name, so that tide_rows and tide_old are what they seem.
-- - A trigger can be made by those only who may execute its function:
--   administrators of tide, who may publish to all outboxes anyway. Nobody
--   else can bind it to a table or give it another capture's id.
-- - The settings tide.capture_open and tide.capture_nested are the user's to
--   forge. What is done by them is confined to the order of events that the
--   very transaction has published to this outbox.
--
-- Locks: those of tide.outbox_publish.

create or replace function tide.outbox_capture_changed() returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
-- Plans are made once a session: with the values at hand, planning takes longer
-- than all the rest, and nothing here gains by it.
set plan_cache_mode = force_generic_plan
as $$
declare
    operation  text := lower(tg_op);
    capture    record;
    row_sql    text := 'to_jsonb(n.*)';
    careful    boolean := false;
    -- without options that change what is published
    plain      boolean;
    names      text[];
    types      oid[];
    kinds      text[];
    whole      boolean := true;
    leave_out  text[];
    mask       jsonb;
    old_values boolean := false;
    -- event ids begin with it, see tide.outbox_publish
    moment     text := lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint), 12, '0') || '7';
    condition  jsonpath;
    event_type text;
    -- A statement's rows are published at once, or these many at a time.
    batch      constant integer := 10000;
    large      boolean;
    steps      text[] := array[operation];
    step       text;
    new_cursor refcursor;
    old_cursor refcursor;
    one        jsonb;
    new_rows   jsonb[];
    old_rows   jsonb[];
    new_keys   text[];
    old_keys   text[];
    -- Payload and key must not depend on the session that writes. A SET clause
    -- for each of these would cost a quarter of the whole; most sessions differ
    -- in none.
    settings   constant text[] := '{timezone,datestyle,intervalstyle,extra_float_digits,bytea_output}';
    pinned     constant text[] := '{UTC,"ISO, MDY",postgres,1,hex}';
    found_as   text[];
    -- see outbox_capture_reorder
    own        text := concat(' ', tg_argv[0], '/', pg_trigger_depth(), '/');
    opened     text := current_setting('tide.capture_open', true);
    mark       integer := 0;
    inner_one  boolean := false;
    first_id   bigint;
begin
    -- This statement ends; others on the same table may be open around it.
    if opened = own || '0' then
        perform set_config('tide.capture_open', '', true);
    elsif strpos(opened, own) > 0 then
        mark := split_part(substr(opened, strpos(opened, own) + length(own)), ' ', 1);
        opened := overlay(opened placing '' from strpos(opened, own) for length(own) + length(mark::text));
        perform set_config('tide.capture_open', opened, true);
        -- Another of the same depth is a part of the same statement.
        inner_one := strpos(replace(opened, own, ''), concat(' ', tg_argv[0], '/')) > 0;
    end if;

    select c.stream, c.key_columns, c.options, o.id as outbox_id, o.name as outbox, o.part, o.enabled,
        c.named_columns, c.leave_out, c.mask, c.plan_names, c.plan_types, c.plan_kinds,
        (select count(*) from tide_rows) as changed,
        -- Built-in types need no further look, nor do domains of them, nor
        -- enumerations that belong to the owner of this function.
        exists (
            select
            from pg_attribute a
            where a.attrelid = tg_relid and a.attnum > 0 and (a.atttypid >= 16384 or a.attgenerated = 'v') and not a.attisdropped
                and (a.attgenerated = 'v' or (
                    -- a value and no "exists", of which the planner would make a join with all types
                    select not (t.typtype = 'd' and t.typbasetype < 16384 or t.typtype = 'e' and t.typowner = to_regrole(quote_ident(current_user))::oid)
                    from pg_type t
                    where t.oid = a.atttypid))
        ) as foreign_types
    into capture
    from tide.outbox_capture c
    join tide.outbox o on o.id = c.outbox_id
    where c.id = tg_argv[0]::uuid;
    if capture.enabled is not true then
        perform tide.outbox_capture_refuse(tg_relid, capture.outbox);
    end if;
    if capture.changed = 0 then
        -- An update can have lost its rows on the way to another partition.
        if tg_argv[1] is null or operation <> 'update' then
            return null;
        elsif not exists (select from tide_old) then
            return null;
        end if;
    end if;
    -- A partition that was detached is no part of the table any more.
    if tg_argv[1] = 'partition' then
        if not exists (select from pg_inherits i where i.inhrelid = tg_relid) then
            return null;
        end if;
    end if;
    plain := capture.options - '{key,stream,truncate}'::text[] = '{}';
    if capture.foreign_types or not plain then
        select array_agg(a.attname::text order by a.attnum), array_agg(a.atttypid order by a.attnum),
            array_agg(case a.attgenerated when 'v' then 'v' else 't' end order by a.attnum)
        into names, types, kinds
        from pg_attribute a
        where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped;
    end if;
    if capture.foreign_types then
        if names = capture.plan_names and types = capture.plan_types then
            kinds := capture.plan_kinds;
        else
            kinds := (select r.kinds from tide.outbox_capture_row(tg_relid) r);
        end if;
        row_sql := tide.outbox_capture_row_sql(names, kinds);
        careful := not kinds <@ '{t}';
    end if;
    if not plain then
        if 'v' = any(kinds) then
            names := tide.outbox_capture_names(tg_relid);
        end if;
        whole := not capture.options ?| '{columns,exclude,mask}';
        if not array(select jsonb_object_keys(capture.named_columns)) <@ names then
            perform tide.outbox_capture_check_columns(tg_relid, tg_argv[0]::uuid, names);
            leave_out := tide.outbox_capture_left_out(capture.options, names);
            mask := tide.outbox_capture_mask(capture.options, names);
        else
            mask := capture.mask;
            leave_out := capture.leave_out;
            if capture.options ? 'columns' then
                leave_out := array(select n from unnest(names) n where not capture.options -> 'columns' ? n);
            end if;
        end if;
        old_values := coalesce((capture.options -> 'old_values')::boolean, false) and operation = 'update';
        if old_values and 'old' = any(names) then
            perform tide.outbox_capture_refuse_old(tg_relid);
        end if;
        condition := capture.options ->> 'when';
        event_type := capture.options ->> 'event_type';
    end if;
    if inner_one or mark < length(current_setting('tide.capture_nested', true)) then
        first_id := nextval('tide.outbox_event_id_seq');
    end if;

    large := capture.changed > batch;
    -- Put back below; an error undoes it with all the rest.
    if current_setting('timezone') not in ('UTC', 'Etc/UTC') or current_setting('datestyle') <> 'ISO, MDY' or current_setting('intervalstyle') <> 'postgres'
        or current_setting('extra_float_digits') <> '1' or current_setting('bytea_output') <> 'hex'
    then
        for n in 1 .. cardinality(settings) loop
            found_as[n] := current_setting(settings[n]);
            if found_as[n] <> pinned[n] then
                perform set_config(settings[n], pinned[n], true);
            end if;
        end loop;
    end if;
    if operation = 'update' then
        -- The n-th old row became the n-th new one, unless rows got lost: a
        -- trigger of a partition may refuse a row that was moved there. Then
        -- nobody knows which is which: all were deleted, and some inserted.
        -- Of a row whose key changes, the old key is deleted ("moved") and the
        -- new one inserted; all deletions first, since the key that one row
        -- gives up another may take.
        steps := '{moved,update}';
        if tg_argv[1] is not null then
            if (select count(*) from tide_old) <> capture.changed then
                steps := '{delete,insert}';
                large := true;
            end if;
        end if;
    end if;

    if not large then
        if careful then
            execute format(case operation
                when 'update' then 'select array(select %1$s from tide_rows n), array(select %1$s from tide_old n)'
                else 'select array(select %1$s from tide_rows n), null::jsonb[]'
            end, row_sql) into new_rows, old_rows;
        elsif operation = 'update' then
            select array(select to_jsonb(n.*) from tide_rows n), array(select to_jsonb(n.*) from tide_old n) into new_rows, old_rows;
        else
            new_rows := array(select to_jsonb(n.*) from tide_rows n);
        end if;
    end if;

    foreach step in array steps loop
        if large then
            open new_cursor for execute format('select %s from %I n', row_sql,
                case when step = 'delete' and operation = 'update' then 'tide_old' else 'tide_rows' end);
            if step in ('moved', 'update') then
                open old_cursor for execute format('select %s from tide_old n', row_sql);
            end if;
        end if;
        loop
            if large then
                new_rows := '{}';
                old_rows := '{}';
                while cardinality(new_rows) < batch loop
                    fetch new_cursor into one;
                    exit when not found;
                    new_rows := new_rows || one;
                    if step in ('moved', 'update') then
                        fetch old_cursor into one;
                        old_rows := old_rows || one;
                    end if;
                end loop;
                exit when new_rows = '{}';
            end if;

            if cardinality(capture.key_columns) > 1 then
                if not new_rows[1] ?& capture.key_columns then
                    perform tide.outbox_capture_check_columns(tg_relid, tg_argv[0]::uuid, tide.outbox_capture_names(tg_relid));
                end if;
                new_keys := tide.outbox_capture_join_keys(new_rows, capture.key_columns);
                old_keys := tide.outbox_capture_join_keys(old_rows, capture.key_columns);
            elsif cardinality(new_rows) = 1 then
                new_keys := array[new_rows[1] ->> capture.key_columns[1]];
                old_keys := array[old_rows[1] ->> capture.key_columns[1]];
            else
                new_keys := array(select r ->> capture.key_columns[1] from unnest(new_rows) r);
                old_keys := array(select r ->> capture.key_columns[1] from unnest(old_rows) r);
            end if;

            if event_type is null and (new_rows[1] ? 'event_type' or old_rows[1] ? 'event_type') then
                -- else a column of that name would be taken for the event's type
                event_type := capture.stream || '.{op}';
            end if;
            -- A key that was renamed is not there; one that is null is nobody's.
            if new_keys[1] is null and cardinality(capture.key_columns) = 1 then
                perform tide.outbox_capture_check_columns(tg_relid, tg_argv[0]::uuid, tide.outbox_capture_names(tg_relid));
            end if;

            if plain and cardinality(new_keys) = 1 and event_type is null and (operation <> 'update' or new_keys = old_keys) then
                -- The commonest case, in half the time.
                if step <> 'moved' then
                    insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
                    values (capture.part, (moment || substr(gen_random_uuid()::text, 16))::uuid, capture.stream,
                        case when length(new_keys[1]) not between 1 and 1024 then tide.outbox_capture_refuse_key(tg_relid, new_keys[1]) else new_keys[1] end,
                        step, new_rows[1], '{}');
                end if;
            elsif step <> 'moved' or new_keys <> old_keys then
                insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
                select capture.part, (moment || substr(gen_random_uuid()::text, 16))::uuid, capture.stream,
                    case when length(e.key) not between 1 and 1024 then tide.outbox_capture_refuse_key(tg_relid, e.key) else e.key end,
                    e.op,
                    case when whole then e.r else (e.r - leave_out) || mask end
                        || case
                            when not old_values or e.op <> 'update' then '{}'
                            else jsonb_build_object('old', case when whole then e.o else (e.o - leave_out) || mask end)
                        end,
                    case
                        when event_type is null then '{}'
                        else jsonb_build_object('event_type', replace(event_type, '{op}', e.op))
                    end || e.more
                from (
                    select u.o, u.r as judged,
                        case when step = 'moved' then u.old_key else u.key end as key,
                        case when step = 'moved' then u.o else u.r end as r,
                        case
                            when step = 'moved' then 'delete'
                            when step = 'update' and u.key is distinct from u.old_key then 'insert'
                            else step
                        end as op,
                        case
                            when step = 'moved' then jsonb_strip_nulls(jsonb_build_object('new_key', u.key))
                            when step = 'update' and u.key is distinct from u.old_key then jsonb_strip_nulls(jsonb_build_object('old_key', u.old_key))
                            else '{}'
                        end as more
                    from unnest(new_rows, old_rows, new_keys, old_keys) u (r, o, key, old_key)
                    where step <> 'moved' or u.key is distinct from u.old_key
                ) e
                where condition is null
                    or jsonb_path_match(e.judged, condition,
                        jsonb_build_object('op', case when step = 'moved' then operation else step end, 'old', e.o), true);
            end if;
            exit when not large;
        end loop;
        if large then
            close new_cursor;
            if step in ('moved', 'update') then
                close old_cursor;
            end if;
        end if;
    end loop;

    for n in 1 .. coalesce(cardinality(found_as), 0) loop
        if found_as[n] <> pinned[n] then
            perform set_config(settings[n], found_as[n], true);
        end if;
    end loop;

    if not pg_try_advisory_xact_lock_shared(1953063013, hashtext(capture.outbox)) then
        if current_setting('max_prepared_transactions') = '0' then
            perform pg_notify('tide_outbox', capture.outbox);
        end if;
    end if;
    if first_id is not null then
        perform tide.outbox_capture_reorder(tg_argv[0], capture.outbox_id, capture.part, first_id, mark, inner_one);
    end if;
    return null;
end
$$;
comment on function tide.outbox_capture_changed() is
'Trigger of captured tables: publishes the rows that a statement has changed.';

-- The keys of rows whose key has several columns: a JSON array of the values,
-- which nothing but the same values makes.
create or replace function tide.outbox_capture_join_keys(rows jsonb[], key_columns text[]) returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select (select jsonb_agg(r.value -> k.name order by k.place) from unnest(key_columns) with ordinality k (name, place))::text
        from unnest(rows) with ordinality r (value, place)
        order by r.place)
$$;
comment on function tide.outbox_capture_join_keys(jsonb[], text[]) is
'The keys of rows whose key has several columns.';
