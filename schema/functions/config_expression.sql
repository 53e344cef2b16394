-- Expressions in a configuration: what SQL can tell about them. Whether they
-- compile, the relay says. No lock.

create or replace function tide.config_check_expressions(pipeline text, config jsonb) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    rule    record;
    path    text;
    unknown text;
    advice  text := 'A rule is an object with "when", an expression, and either "subject", a template, or "drop": true, which sends what matches nowhere.';
begin
    foreach path in array array['filter', 'payload'] loop
        if config #> array['transform', path] is not null then
            perform tide.config_check_expression(pipeline, 'transform.' || path, config #> array['transform', path]);
        end if;
    end loop;
    if jsonb_typeof(config #> '{routing,rules}') = 'array' then
        for rule in
            select r.value, r.ordinality
            from jsonb_array_elements(config #> '{routing,rules}') with ordinality r
        loop
            path := format('routing.rules[%s]', rule.ordinality - 1);
            if jsonb_typeof(rule.value) <> 'object' or not rule.value ? 'when' then
                perform tide.config_refuse(pipeline, format('key "%s" is %s', path, left(rule.value::text, 60)), advice);
            end if;
            select k.key into unknown from jsonb_object_keys(rule.value) k (key)
            where k.key not in ('when', 'subject', 'topic', 'drop') order by k.key limit 1;
            if found then
                perform tide.config_refuse(pipeline, format('key "%s.%s" is not known', path, unknown), advice);
            end if;
            -- Without a word on where to go, nobody would miss what goes nowhere.
            if coalesce(rule.value -> 'drop' = 'true', false) = (coalesce(rule.value ->> 'subject', '') || coalesce(rule.value ->> 'topic', '') <> '') then
                perform tide.config_refuse(pipeline, format('key "%s" is %s', path, left(rule.value::text, 60)), advice);
            end if;
            perform tide.config_check_expression(pipeline, path || '.when', rule.value -> 'when');
        end loop;
    end if;
    if config #> '{routing,drop_unmatched}' = 'true' and config #> '{routing,default}' is not null then
        perform tide.config_refuse(pipeline, 'keys "routing.default" and "routing.drop_unmatched" contradict each other',
            'Keep "default", a template, or "drop_unmatched": true, which sends what no rule matches nowhere.');
    end if;
end
$$;
comment on function tide.config_check_expressions(text, jsonb) is
'Refuses a configuration whose expressions cannot be right.';

-- An expression is a text that is not blank, with every quote and bracket closed.
create or replace function tide.config_check_expression(pipeline text, path text, expression jsonb) returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    source  text := expression #>> '{}';
    opened  text := '';
    quote   text;
    letter  text;
    skipped boolean := false;
    advice  text := 'An expression looks like: payload.event_type == ''order.created''.';
begin
    if jsonb_typeof(expression) <> 'string' or source ~ '^\s*$' then
        perform tide.config_refuse(pipeline, format('key "%s" is %s', path, left(expression::text, 60)), advice);
    end if;
    for position in 1 .. length(source) loop
        letter := substr(source, position, 1);
        if skipped then
            skipped := false;
        elsif quote is not null then
            skipped := letter = '\';
            quote := case when letter = quote then null else quote end;
        elsif letter in ('''', '"', '`') then
            quote := letter;
        elsif letter in ('(', '[', '{') then
            opened := opened || translate(letter, '([{', ')]}');
        elsif letter in (')', ']', '}') then
            if right(opened, 1) <> letter then
                perform tide.config_refuse(pipeline,
                    format('key "%s": "%s" at character %s of %s closes nothing', path, letter, position, left(source, 120)), advice);
            end if;
            opened := left(opened, -1);
        end if;
    end loop;
    if quote is not null or opened <> '' then
        perform tide.config_refuse(pipeline,
            format('key "%s": %s is not closed in %s', path, coalesce('quote ' || quote, 'a bracket, ' || right(opened, 1) || ' is awaited,'), left(source, 120)), advice);
    end if;
end
$$;
comment on function tide.config_check_expression(text, text, jsonb) is
'Refuses a text that cannot be an expression.';
