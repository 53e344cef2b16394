-- Checking the options of a capture. No lock. Nothing of an option is ever
-- executed: they name columns, and "when" is a JSON path.

create or replace function tide.outbox_capture_refuse_option(relation regclass, problem text, advice text, code text default '22023')
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = code,
        message = format('cannot capture table "%s": %s', relation, problem),
        hint = advice;
end
$$;
comment on function tide.outbox_capture_refuse_option(regclass, text, text, text) is
'Raises the error for a table or an option that cannot be captured.';

-- The options that a capture may have, and the JSON types of their values.
create or replace function tide.outbox_capture_keys() returns table (key text, kinds text[], example text)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    values
    ('columns', '{array}'::text[], '["id", "status"]'),
    ('event_type', '{string}', '"order.{op}"'),
    ('exclude', '{array}', '["notes"]'),
    ('key', '{string,array}', '"customer_id"'),
    ('mask', '{array,object}', '["email"] or {"email": "hidden"}'),
    ('old_values', '{boolean}', 'true'),
    ('stream', '{string}', '"orders"'),
    ('truncate', '{string}', '"refuse" or "publish"'),
    ('when', '{string}', '"$.status == \"paid\""')
$$;
comment on function tide.outbox_capture_keys() is
'The options that a capture may have.';

-- Refuses options that cannot be right; returns the columns that they and the
-- key name, with their numbers.
create or replace function tide.outbox_capture_check_options(relation regclass, options jsonb, key_columns text[]) returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    option    record;
    near      text;
    names     text[];
    named     jsonb := '{}';
    mentioned record;
begin
    if options is null or jsonb_typeof(options) <> 'object' then
        perform tide.outbox_capture_refuse_option(relation, format('options are %s', coalesce(left(options::text, 60), 'null')),
            'Give a JSON object, for instance ''{"exclude": ["notes"]}''.');
    end if;
    for option in
        select o.key, o.value, jsonb_typeof(o.value) as kind, k.key as known, k.kinds, k.example
        from jsonb_each(options) o
        left join tide.outbox_capture_keys() k on k.key = o.key
        order by o.key
    loop
        if option.known is null then
            near := tide.nearest_name(option.key, array(select k.key from tide.outbox_capture_keys() k));
            perform tide.outbox_capture_refuse_option(relation, format('option "%s" is not known', left(option.key, 80)),
                case
                    when near is not null then format('Did you mean "%s"?', near)
                    else format('The options are: %s.', (select string_agg(k.key, ', ' order by k.key) from tide.outbox_capture_keys() k))
                end);
        end if;
        if not option.kind = any(option.kinds) or option.value in ('""', '[]', '{}') then
            perform tide.outbox_capture_refuse_option(relation, format('option "%s" is %s', option.key, left(option.value::text, 60)),
                format('Give for instance %s, or leave the option out.', option.example));
        end if;
        if option.kind = 'array' and exists (select from jsonb_array_elements(option.value) e where jsonb_typeof(e) <> 'string') then
            perform tide.outbox_capture_refuse_option(relation, format('option "%s" is %s', option.key, left(option.value::text, 60)),
                'Give the names of columns, as strings.');
        end if;
    end loop;
    perform tide.outbox_capture_check_values(relation, options);

    names := tide.outbox_capture_names(relation);
    for mentioned in
        select n.name, n.option
        from (
            select unnest(key_columns) as name, 'key' as option
            union all
            select e, o.key
            from jsonb_each(options) o
            cross join jsonb_array_elements_text(case when jsonb_typeof(o.value) = 'array' then o.value else '[]' end) e
            where o.key in ('columns', 'exclude', 'mask')
            union all
            select jsonb_object_keys(options -> 'mask'), 'mask' where jsonb_typeof(options -> 'mask') = 'object'
            union all
            select ('"' || m[1] || '"')::jsonb #>> '{}', 'when' from regexp_matches(tide.outbox_capture_path(relation, options)::text, '\$(?:"old")?\."((?:[^"\\]|\\.)+)"', 'g') m
        ) n
    loop
        if not mentioned.name = any(names) then
            near := tide.nearest_name(mentioned.name, names);
            perform tide.outbox_capture_refuse_option(relation,
                format('option "%s" names column "%s", which %s', mentioned.option, left(mentioned.name, 80),
                    case
                        when exists (select from pg_attribute a where a.attrelid = relation and a.attname = mentioned.name)
                            then 'is generated and not stored'
                        else 'does not exist'
                    end),
                case
                    when near is not null then format('Did you mean "%s"?', near)
                    else format('The columns are: %s.', left(array_to_string(names, ', '), 500))
                end, '42703');
        end if;
        named := named || jsonb_build_object(mentioned.name,
            (select a.attnum from pg_attribute a where a.attrelid = relation and a.attname = mentioned.name));
    end loop;
    return named;
end
$$;
comment on function tide.outbox_capture_check_options(regclass, jsonb, text[]) is
'Refuses options of a capture that cannot be right; the columns that they name, with their numbers.';

-- What the options' values must look like beyond their types.
create or replace function tide.outbox_capture_check_values(relation regclass, options jsonb) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    stream     text := options ->> 'stream';
    condition  jsonpath := tide.outbox_capture_path(relation, options);
    refusal    text;
    sample     jsonb;
begin
    if length(stream) > 255 or stream like '{%' or stream like '[%' then
        perform tide.outbox_capture_refuse_option(relation, format('stream "%s" is longer than 255 characters or starts with { or [', left(stream, 60)),
            'Give a short word for what the events are about, for instance "orders".');
    end if;
    if options ? 'columns' and options ? 'exclude' then
        perform tide.outbox_capture_refuse_option(relation, 'options "columns" and "exclude" are both given',
            'Say which columns events have, or which they have not.');
    end if;
    if options ->> 'truncate' not in ('refuse', 'publish') then
        perform tide.outbox_capture_refuse_option(relation, format('option "truncate" is "%s"', left(options ->> 'truncate', 60)),
            'Choose one of: refuse, publish.');
    end if;
    if condition is null then
        return;
    end if;
    -- Evaluated once, with a row of nulls: finds variables that are not there,
    -- and paths that are no condition.
    sample := (select jsonb_object_agg(n, null) from unnest(tide.outbox_capture_names(relation)) n);
    begin
        perform jsonb_path_match(sample, condition, jsonb_build_object('op', 'insert', 'old', sample));
    exception when others then
        get stacked diagnostics refusal = message_text;
        perform tide.outbox_capture_refuse_option(relation, format('option "when" is no condition: %s', refusal),
            'Write a JSON path that is true or false: $ is the row, $old the row before an update, $op the op. Example: $.status == "paid" && $op != "delete".');
    end;
end
$$;
comment on function tide.outbox_capture_check_values(regclass, jsonb) is
'Refuses values of a capture''s options that cannot be right.';

-- The condition as a JSON path; an error in words when it is none.
create or replace function tide.outbox_capture_path(relation regclass, options jsonb) returns jsonpath
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    path    jsonpath;
    refusal text;
begin
    -- Assigned first: the value of "return" is cast outside of this block.
    path := options ->> 'when';
    return path;
exception when others then
    get stacked diagnostics refusal = message_text;
    perform tide.outbox_capture_refuse_option(relation, format('option "when" is not a JSON path: %s', refusal),
        'Write for instance $.status == "paid": $ is the row, $old the row before an update, $op the op. Columns whose names are no plain words are quoted: $."my column".');
end
$$;
comment on function tide.outbox_capture_path(regclass, jsonb) is
'The condition of a capture as a JSON path.';
