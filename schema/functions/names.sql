-- Names of outboxes, inboxes and pipelines: what they may look like.
-- No lock. Raises an error that names the kind, the name and the rule.
create or replace function tide.check_name(kind text, name text) returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null then
        raise exception using
            errcode = '22004',
            message = format('%s name is null', kind),
            hint = format('Give the %s a name, for instance ''orders''.', kind);
    end if;
    if length(name) > 48 then
        raise exception using
            errcode = '42622',
            message = format('%s name "%s…" has %s characters, and 48 are the most', kind, left(name, 60), length(name)),
            hint = 'Choose a shorter name.';
    end if;
    if name !~ '^[A-Za-z_][A-Za-z0-9_.-]*$' then
        raise exception using
            errcode = '42602',
            message = format('%s name "%s" is not allowed', kind, name),
            hint = 'A name starts with a letter of A to Z, a to z or an underscore and goes on with those, digits, dots and hyphens.';
    end if;
end
$$;
comment on function tide.check_name(text, text) is
'Refuses a name that an outbox, an inbox or a pipeline cannot have.';

-- The known name that is nearest to a mistyped one; null when none is near.
create or replace function tide.nearest_name(name text, known text[]) returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    best          text;
    best_distance integer := greatest(2, length(name) / 3) + 1;
    candidate     text;
    distance      integer;
begin
    foreach candidate in array coalesce(known, '{}') loop
        distance := tide.edit_distance(left(lower(name), 64), left(lower(candidate), 64));
        if distance < best_distance then
            best := candidate;
            best_distance := distance;
        end if;
    end loop;
    return best;
end
$$;
comment on function tide.nearest_name(text, text[]) is
'The known name nearest to a mistyped one, or null.';

-- Levenshtein's distance, one row of the table at a time.
create or replace function tide.edit_distance(a text, b text) returns integer
language plpgsql
immutable strict
set search_path = pg_catalog, pg_temp
as $$
declare
    before  integer[];
    current integer[];
begin
    select array_agg(n) into before from generate_series(0, length(b)) n;
    for i in 1 .. length(a) loop
        current := array[i];
        for j in 1 .. length(b) loop
            current[j + 1] := least(
                current[j] + 1,
                before[j + 1] + 1,
                before[j] + case when substr(a, i, 1) = substr(b, j, 1) then 0 else 1 end);
        end loop;
        before := current;
    end loop;
    return before[length(b) + 1];
end
$$;
comment on function tide.edit_distance(text, text) is
'How many characters must change to turn one text into the other.';

-- A retention: how long rows are kept. '48' means 48 seconds to PostgreSQL and
-- hours to most who write it, so less than a minute is refused.
create or replace function tide.check_retention(kind text, name text, retention interval) returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if retention is null then
        raise exception using
            errcode = '22004',
            message = format('retention of %s "%s" is null', kind, name),
            hint = 'Give an interval with its unit, for instance ''1 day''.';
    end if;
    -- Compared with a minute only: an interval of months has no exact length.
    if retention < interval '1 minute' then
        raise exception using
            errcode = '22023',
            message = format('retention %s of %s "%s" is shorter than a minute', retention, kind, name),
            hint = 'Write the unit: a bare number is seconds, so ''48'' means 48 seconds; ''48 hours'' or ''2 days'' may be what you want.';
    end if;
end
$$;
comment on function tide.check_retention(text, text, interval) is
'Refuses a retention that is null or shorter than a minute.';

-- Raises the error for a name that nothing has.
create or replace function tide.refuse_unknown(kind text, name text, known text[]) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    near text := tide.nearest_name(coalesce(name, ''), known);
begin
    if name is null then
        perform tide.check_name(kind, name);
    end if;
    raise exception using
        errcode = '42704',
        message = format('%s "%s" does not exist', kind, left(name, 100)),
        hint = case
            when near is not null then format('Did you mean "%s"?', near)
            when kind = 'outbox' then format('Create it with: select tide.outbox_create(%L);', left(name, 100))
            when kind = 'inbox' then format('Create it with: select tide.inbox_create(%L);', left(name, 100))
            else 'tide.relay_list_configs() lists the pipelines; tide.relay_set_outbox and tide.relay_set_inbox create one.'
        end;
end
$$;
comment on function tide.refuse_unknown(text, text, text[]) is
'Raises the error for a name that nothing has, with the nearest that something has.';
