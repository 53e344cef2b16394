-- Publishing the rows that a captured table has already, as events with the op
-- "read": a chunk a call, and a call a transaction, in the order of the
-- primary key. Runs as the caller, who reads and locks rows of the table.
--
-- Locks: the capture's row, so that two backfills of one table take turns;
-- FOR SHARE on the rows of a chunk until the end of the transaction: who
-- changes one of them waits that long.
--
-- That lock keeps the order. Without it: the backfill reads a row; somebody
-- changes it, publishes the update and commits; the backfill publishes the row
-- as it was, and consumers keep that. With it, either the change waits for the
-- backfill's commit, and its event comes later; or the backfill waits for the
-- change's commit, reads the row anew, and its event comes later. A row that
-- is inserted meanwhile, or whose key moves to where the backfill has been,
-- has its own event: the triggers are there before the backfill begins, and
-- making them waited for everybody who wrote without.
create or replace function tide.outbox_capture_backfill(
    "table"      regclass,
    chunk        integer default 1000,
    restart      boolean default false
)
returns table (rows bigint, done bigint, total bigint, finished boolean)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
-- As in outbox_capture_changed: payload and key, and the position.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
    keys       text[] := tide.outbox_capture_primary_key("table");
    capture    record;
    reading    record;
    bound      text[];
    source     text;
    range      text;
    row_order  text;
    payloads   jsonb[];
    event_keys text[];
    event_type text;
    policies   constant text := current_setting('row_security');
begin
    if chunk is null or chunk not between 1 and 100000 then
        raise exception using
            errcode = '22023',
            message = format('chunk is %s', coalesce(chunk::text, 'null')),
            hint = 'Give a number of rows from 1 to 100000.';
    end if;
    select b.* into capture from tide.outbox_capture_backfill_begin("table", restart) b;
    if keys = '{}' then
        raise exception using
            errcode = '55000',
            message = format('table "%s" has no primary key, so a backfill could not go on where it stopped', "table"),
            hint = 'Add one. Or publish its rows yourself, in one transaction, with tide.outbox_publish_many and the op "read".';
    end if;
    total := capture.total;
    done := capture.done;
    rows := 0;
    finished := capture.finished;
    if finished then
        return next;
        return;
    end if;

    -- Where a policy would hide rows of the table, reading fails.
    perform set_config('row_security', 'off', true);
    source := format('%s %s n', case when (select c.relkind from pg_class c where c.oid = "table") = 'r' then 'only' end, "table");
    row_order := (select string_agg(format('n.%I', k), ', ' order by place) from unnest(keys) with ordinality u (k, place));
    if total is null then
        total := tide.outbox_capture_count("table", source);
    end if;
    -- The end of the chunk, from a look without locks. The rows within are
    -- then read by a range and not by "limit": a row whose key is changed
    -- while its lock is waited for would come back as the last of the chunk,
    -- and everything up to its new key would be passed over.
    range := tide.outbox_capture_range("table", keys, capture.after, '>');
    execute format('select array[%s] from %s where %s order by %s offset %s limit 1',
        (select string_agg(format('format(''%%s'', n.%I)', k), ', ' order by place) from unnest(keys) with ordinality u (k, place)),
        source, range, row_order, chunk - 1) into bound;
    range := range || ' and ' || tide.outbox_capture_range("table", keys, bound, '<=');

    select tide.outbox_capture_names("table") as names, tide.outbox_capture_row_sql(r.names, r.kinds) as row_sql into reading
    from tide.outbox_capture_row("table") r;
    if not array(select jsonb_object_keys(capture.named_columns)) <@ reading.names then
        perform tide.outbox_capture_check_columns("table", capture.id, reading.names);
    end if;
    execute format('
        select array_agg(((t.r - $1) || $2) order by t.place) filter (where t.wanted), array_agg(t.key order by t.place) filter (where t.wanted), count(*)
        from (
            select s.r, row_number() over () as place,
                case when cardinality($3) = 1 then s.r ->> $3[1] else (tide.outbox_capture_join_keys(array[s.r], $3))[1] end as key,
                $4 is null or coalesce(jsonb_path_match(s.r, $4, ''{"op": "read", "old": null}'', true), false) as wanted
            from (select %s as r from %s where %s order by %s for share of n) s
        ) t', reading.row_sql, source, range, row_order)
    into payloads, event_keys, rows
    using tide.outbox_capture_left_out(capture.options, reading.names), tide.outbox_capture_mask(capture.options, reading.names),
        capture.key_columns, (capture.options ->> 'when')::jsonpath;

    perform set_config('row_security', policies, true);
    if payloads is not null then
        if capture.options ? 'event_type' or 'event_type' = any(reading.names) then
            event_type := replace(coalesce(capture.options ->> 'event_type', capture.stream || '.{op}'), '{op}', 'read');
        end if;
        perform tide.outbox_publish_many(capture.outbox, payloads, array[capture.stream],
            array[jsonb_strip_nulls(jsonb_build_object('event_type', event_type))], event_keys, array['read']);
    end if;
    finished := bound is null;
    done := done + rows;
    total := greatest(total, done);
    perform tide.outbox_capture_backfill_save(capture.id, bound, done, total, finished);
    return next;
end
$$;
comment on function tide.outbox_capture_backfill(regclass, integer, boolean) is
'Publishes the next chunk of a captured table''s rows as events with the op read; call it, a transaction each, until finished. Goes on where the last call stopped; restart begins anew.
Example: select * from tide.outbox_capture_backfill(''orders'', chunk => 5000);';

-- The state of a backfill, its row locked.
create or replace function tide.outbox_capture_backfill_begin(relation regclass, restart boolean)
returns table (id uuid, outbox text, stream text, key_columns text[], named_columns jsonb, options jsonb, after text[], done bigint, total bigint, finished boolean)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    capture uuid := tide.outbox_capture_of(relation);
begin
    if restart then
        update tide.outbox_capture c
        set backfill_after = null, backfill_rows = 0, backfill_total = null, backfill_started_at = null, backfill_finished_at = null
        where c.id = capture;
    end if;
    return query
        select c.id, o.name, c.stream, c.key_columns, c.named_columns, c.options, c.backfill_after, c.backfill_rows, c.backfill_total,
            c.backfill_finished_at is not null
        from tide.outbox_capture c
        join tide.outbox o on o.id = c.outbox_id
        where c.id = capture
        for update of c;
    if not found then
        raise exception using
            errcode = '42704',
            message = format('table "%s" is not captured', coalesce(relation::text, 'null')),
            hint = 'Capture it first, so that no change is missed: select tide.outbox_capture(…);';
    end if;
end
$$;
comment on function tide.outbox_capture_backfill_begin(regclass, boolean) is
'The state of a backfill, locked; an error when the table is not captured.';

create or replace function tide.outbox_capture_backfill_save(capture uuid, after text[], done bigint, total bigint, finished boolean) returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update tide.outbox_capture c
    set backfill_after = outbox_capture_backfill_save.after, backfill_rows = outbox_capture_backfill_save.done,
        backfill_total = outbox_capture_backfill_save.total,
        backfill_started_at = coalesce(c.backfill_started_at, now()),
        backfill_finished_at = case when outbox_capture_backfill_save.finished then now() end
    where c.id = capture;
end
$$;
comment on function tide.outbox_capture_backfill_save(uuid, text[], bigint, bigint, boolean) is
'Saves how far a backfill is.';

-- How many rows a table has: counted up to a hundred thousand, then by the
-- planner's statistics.
create or replace function tide.outbox_capture_count(relation regclass, source text) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    counted   bigint;
    estimated bigint;
begin
    execute format('select count(*) from (select from %s limit 100001) t', source) into counted;
    select sum(c.reltuples)::bigint into estimated
    from pg_class c
    where c.oid = relation or c.oid in (select t.relid from pg_partition_tree(relation) t where t.isleaf);
    return case when counted <= 100000 then counted else greatest(counted, estimated) end;
end
$$;
comment on function tide.outbox_capture_count(regclass, text) is
'About how many rows a table has.';

-- The condition for rows "n" whose primary key is above a value, or not above
-- it; true when there is no value. The operators are those of the key's own
-- index: those of their name that the search_path finds may order otherwise.
-- Only superusers make operator families, so they are nobody's trap.
create or replace function tide.outbox_capture_range(relation regclass, keys text[], bounds text[], side text) returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    part   record;
    above  text;
    first  text;
begin
    if bounds is null then
        return 'true';
    end if;
    for part in
        select format('n.%I', a.attname) as name, format('%L::%s', bounds[k.place], format_type(a.atttypid, a.atttypmod)) as value,
            max(format('operator(%I.%s)', s.nspname, o.oprname)) filter (where m.amopstrategy = 5) as greater,
            max(format('operator(%I.%s)', s.nspname, o.oprname)) filter (where m.amopstrategy = 4) as not_less,
            max(format('operator(%I.%s)', s.nspname, o.oprname)) filter (where m.amopstrategy = 2) as not_greater,
            max(format('operator(%I.%s)', s.nspname, o.oprname)) filter (where m.amopstrategy = 3) as equal
        from pg_index i
        cross join unnest(i.indkey::int2[], i.indclass::oid[]) with ordinality k (attnum, class, place)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        join pg_opclass c on c.oid = k.class
        join pg_amop m on m.amopfamily = c.opcfamily and m.amoplefttype = c.opcintype and m.amoprighttype = c.opcintype
        join pg_operator o on o.oid = m.amopopr
        join pg_namespace s on s.oid = o.oprnamespace
        where i.indrelid = relation and i.indisprimary and k.place <= cardinality(keys)
        group by k.place, a.attname, a.atttypid, a.atttypmod
        order by k.place desc
    loop
        above := case
            when above is null then format('%s %s %s', part.name, part.greater, part.value)
            else format('(%s %s %s or %1$s %4$s %3$s and (%5$s))', part.name, part.greater, part.value, part.equal, above)
        end;
        -- by this the index is entered
        first := format('%s %s %s', part.name, case side when '>' then part.not_less else part.not_greater end, part.value);
    end loop;
    return format(case side when '>' then '(%s and %s)' else '(%s and not %s)' end, first, above);
end
$$;
comment on function tide.outbox_capture_range(regclass, text[], text[], text) is
'The condition for rows above a primary key, or not above it.';
