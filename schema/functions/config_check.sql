-- Checking a pipeline's configuration as far as SQL can tell. No lock.

create or replace function tide.config_refuse(pipeline text, problem text, advice text, code text default '22023')
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = code,
        message = format('configuration of pipeline "%s": %s', pipeline, problem),
        hint = advice;
end
$$;
comment on function tide.config_refuse(text, text, text, text) is
'Raises the error for a configuration that is not right.';

create or replace function tide.config_check(pipeline text, direction text, config jsonb) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    technology text;
begin
    if config is null then
        perform tide.config_refuse(pipeline, 'config is null',
            'Give a JSON object, for instance ''{"sink_type": "nats", "url": "nats://localhost:4222"}''.', '22004');
    end if;
    if jsonb_typeof(config) <> 'object' then
        perform tide.config_refuse(pipeline,
            format('config is of type %s, value %s', jsonb_typeof(config), left(tide.config_mask(config)::text, 60)),
            'Give a JSON object, for instance ''{"sink_type": "nats", "url": "nats://localhost:4222"}''.');
    end if;
    technology := tide.config_technology(pipeline, direction, config);
    perform tide.config_check_object(pipeline, technology, direction, '', config);
    perform tide.config_check_required(pipeline, technology, direction, config);
    perform tide.config_check_expressions(pipeline, config);
end
$$;
comment on function tide.config_check(text, text, jsonb) is
'Refuses a pipeline''s configuration that cannot be right.';

-- The far end's technology, from sink_type or source_type.
create or replace function tide.config_technology(pipeline text, direction text, config jsonb) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    type_key  text := case direction when 'forward' then 'sink_type' else 'source_type' end;
    wrong_key text := case direction when 'forward' then 'source_type' else 'sink_type' end;
    known     text[] := array(
        select c.choice
        from tide.config_keys() k
        cross join unnest(k.choices) c (choice)
        where k.technology = 'common' and k.key = type_key
        order by c.choice);
    chosen    text := config ->> type_key;
begin
    if config ? wrong_key then
        perform tide.config_refuse(pipeline,
            format('key "%s" does not belong into a %s pipeline', wrong_key, direction),
            format('Write "%s" there, or use tide.%s.', type_key,
                case direction when 'forward' then 'relay_set_inbox' else 'relay_set_outbox' end));
    end if;
    if chosen is null then
        perform tide.config_refuse(pipeline, format('key "%s" is missing', type_key),
            format('Say what the far end is, one of: %s.', array_to_string(known, ', ')));
    end if;
    if not chosen = any(known) then
        perform tide.config_refuse(pipeline, format('%s "%s" is not known', type_key, left(chosen, 60)),
            format('Choose one of: %s.', array_to_string(known, ', ')));
    end if;
    return chosen;
end
$$;
comment on function tide.config_technology(text, text, jsonb) is
'The technology of a configuration''s far end; an error when it is unknown.';

-- Every key of an object and, where its own keys are declared, of those within.
create or replace function tide.config_check_object(
    pipeline   text,
    technology text,
    direction  text,
    prefix     text,
    config     jsonb
) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    entry    record;
    declared record;
    path     text;
begin
    for entry in select e.key, e.value from jsonb_each(config) e order by e.key loop
        path := prefix || entry.key;
        select k.key, k.kind, k.alias_of, k.choices into declared
        from tide.config_keys() k
        where k.key = path
            and k.technology in ('common', config_check_object.technology)
            and coalesce(k.direction, config_check_object.direction) = config_check_object.direction
        limit 1;
        if not found then
            perform tide.config_refuse_key(pipeline, technology, direction, path);
        end if;
        perform tide.config_check_value(pipeline, path, declared.kind, declared.choices, entry.value);
        if declared.alias_of is not null then
            if config ? split_part(declared.alias_of, '.', -1) then
                perform tide.config_refuse(pipeline, format('keys "%s" and "%s" say the same', path, declared.alias_of),
                    format('Leave out "%s".', path));
            end if;
            raise notice using message =
                format('configuration of pipeline "%s": key "%s" is an alias of "%s"', pipeline, path, declared.alias_of);
        end if;
        if jsonb_typeof(entry.value) = 'object'
            and exists (select from tide.config_keys() k where k.key like replace(path, '_', '\_') || '.%')
        then
            perform tide.config_check_object(pipeline, technology, direction, path || '.', entry.value);
        end if;
        perform tide.config_warn_secret(pipeline, path, entry.key, entry.value);
    end loop;
end
$$;
comment on function tide.config_check_object(text, text, text, text, jsonb) is
'Refuses unknown keys and wrong values in a configuration.';

create or replace function tide.config_refuse_key(pipeline text, technology text, direction text, path text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    known text[] := array(
        select k.key
        from tide.config_keys() k
        where k.technology in ('common', config_refuse_key.technology)
            and coalesce(k.direction, config_refuse_key.direction) = config_refuse_key.direction
            and k.alias_of is null
        order by k.key);
    near  text := tide.nearest_name(path, known);
begin
    perform tide.config_refuse(pipeline,
        format('key "%s" is not known for a %s pipeline with %s', left(path, 80), direction, technology),
        case
            when near is not null then format('Did you mean "%s"?', near)
            else format('The keys are: %s.', array_to_string(known, ', '))
        end);
end
$$;
comment on function tide.config_refuse_key(text, text, text, text) is
'Raises the error for an unknown key, with the nearest known one.';

create or replace function tide.config_check_value(pipeline text, path text, kind text, choices text[], value jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    actual text := jsonb_typeof(value);
    shown  text := case when tide.config_is_secret(path) then '(secret)' else left(tide.config_mask(value)::text, 60) end;
    fits   boolean;
begin
    fits := case kind
        when 'integer' then actual = 'number' and trunc((value #>> '{}')::numeric) = (value #>> '{}')::numeric
        else actual = kind
    end;
    if not fits then
        perform tide.config_refuse(pipeline,
            format('key "%s" is %s, of type %s', path, shown, actual),
            format('Give a value of type %s, or leave the key out.', kind));
    end if;
    if kind = 'string' and value #>> '{}' = '' then
        perform tide.config_refuse(pipeline, format('key "%s" is empty', path),
            'Give a value, or leave the key out.');
    end if;
    if kind = 'string' and not tide.config_is_reference(value #>> '{}') and not value #>> '{}' = any(choices) then
        perform tide.config_refuse(pipeline, format('key "%s" is %s', path, shown),
            format('Choose one of: %s.', array_to_string(choices, ', ')));
    end if;
end
$$;
comment on function tide.config_check_value(text, text, text, text[], jsonb) is
'Refuses a configuration value of the wrong type or not among the choices.';

create or replace function tide.config_check_required(pipeline text, technology text, direction text, config jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    missing text;
begin
    select string_agg(format('"%s"', k.key), ', ' order by k.key) into missing
    from tide.config_keys() k
    where k.required
        and k.technology in ('common', config_check_required.technology)
        and coalesce(k.direction, config_check_required.direction) = config_check_required.direction
        and k.key not like '%.%'
        and not config ? k.key
        and not exists (select from tide.config_keys() a where a.alias_of = k.key and config ? a.key);
    if missing is not null then
        perform tide.config_refuse(pipeline, format('key %s is missing', missing),
            format('A %s pipeline with %s needs it.', direction, technology));
    end if;
end
$$;
comment on function tide.config_check_required(text, text, text, jsonb) is
'Refuses a configuration that lacks a required key.';

-- A literal secret is taken, and pointed out: whoever may read tide.pipeline
-- or a dump sees it.
create or replace function tide.config_warn_secret(pipeline text, path text, key text, value jsonb) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    written text := value #>> '{}';
begin
    if jsonb_typeof(value) = 'string'
        and (tide.config_is_secret(key) and not tide.config_is_reference(written)
            or tide.config_mask_text(written) <> written)
    then
        raise notice using
            message = format('configuration of pipeline "%s": the secret in key "%s" is stored as written', pipeline, path),
            hint = 'Write a reference instead, ${env:NAME} or ${file:PATH}: the relay resolves it.';
    end if;
end
$$;
comment on function tide.config_warn_secret(text, text, text, jsonb) is
'Points out a secret that is written into a configuration.';
