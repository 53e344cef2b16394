-- A captured table's row as JSON. No lock.
--
-- to_jsonb calls user code where a type has a cast to json: whoever owns the
-- type may make one at any time. Such values must not be given to it where
-- somebody else's rights are in force, see outbox_capture_changed.sql.

-- A table's columns, their types, and how each becomes JSON:
--
--   t  as it is: to_jsonb may see it. Built-in types, domains and arrays of
--      them; types and composites of built-in types that belong to a superuser
--      or to the current user, for nobody else can make a cast for these.
--   f  by the type's output function, which only superusers can make.
--   a  likewise, and then as an array of texts.
--   v  not at all: generated and not stored. A trigger sees nothing of it, and
--      a consumer can compute it as well.
--
-- Enumerations and ranges are always "f", which gives the same text.
-- "lasting" says that another answer takes another column, or a superuser who
-- gives a base type away. Composite types change by themselves.
create or replace function tide.outbox_capture_row(relation regclass, out names text[], out types oid[], out kinds text[], out lasting boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    select array_agg(c.name order by c.place), array_agg(c.type order by c.place), bool_and(c.typtype <> 'c'),
        array_agg(case when c.virtual then 'v' when c.trusted then 't' when c.is_array then 'a' else 'f' end order by c.place)
    into names, types, lasting, kinds
    from (
        select a.attname::text as name, a.attnum as place, a.atttypid as type, a.attgenerated = 'v' as virtual, e.oid is not null as is_array, x.typtype,
            a.atttypid < 16384
                or x.typtype = 'd' and x.typbasetype < 16384
                or (r.rolsuper or r.rolname = current_user) and (
                    x.typtype = 'b'
                    or x.typtype = 'c' and not exists (
                        select from pg_attribute f
                        where f.attrelid = x.typrelid and f.attnum > 0 and not f.attisdropped and f.atttypid >= 16384)) as trusted
        from pg_attribute a
        join pg_type t on t.oid = a.atttypid
        left join pg_type e on e.oid = t.typelem and t.typlen = -1
        join pg_type x on x.oid = coalesce(e.oid, t.oid)
        left join pg_roles r on r.oid = x.typowner
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
    ) c;
end
$$;
comment on function tide.outbox_capture_row(regclass) is
'A captured table''s columns, their types, and how each becomes JSON.';

-- The expression for the row "n" as JSON.
create or replace function tide.outbox_capture_row_sql(names text[], kinds text[]) returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if kinds <@ '{t}' then
        -- "n.*", since "n" could be a column
        return 'to_jsonb(n.*)';
    end if;
    return (
        select format('(select to_jsonb(t.*) from (select %s) t)', string_agg(
            case u.kind
                when 't' then format('n.%I', u.name)
                -- format calls the type's output function. A cast to text could be anybody's.
                else format('case when num_nulls(n.%1$I) = 0 then format(''%%s'', n.%1$I)%2$s end as %1$I', u.name,
                    case u.kind when 'a' then '::text[]' end)
            end, ', ' order by u.place))
        from unnest(names, kinds) with ordinality u (name, kind, place)
        where u.kind <> 'v');
end
$$;
comment on function tide.outbox_capture_row_sql(text[], text[]) is
'The expression for a captured row as JSON.';

-- The columns that a row has in events.
create or replace function tide.outbox_capture_names(relation regclass) returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select a.attname::text
        from pg_attribute a
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
        order by a.attnum)
$$;
comment on function tide.outbox_capture_names(regclass) is
'The columns that a captured row has in events.';

-- The columns that events do not have.
create or replace function tide.outbox_capture_left_out(options jsonb, names text[]) returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select n.name
        from unnest(names) n (name)
        where options -> 'exclude' ? n.name
            or options ? 'columns' and not options -> 'columns' ? n.name)
$$;
comment on function tide.outbox_capture_left_out(jsonb, text[]) is
'The columns that a capture leaves out.';

-- What takes the place of the masked columns' values.
create or replace function tide.outbox_capture_mask(options jsonb, names text[]) returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(m.name, m.value), '{}')
    from (
        select e.name, '"***"'::jsonb as value
        from jsonb_array_elements_text(case when jsonb_typeof(options -> 'mask') = 'array' then options -> 'mask' else '[]' end) e (name)
        union all
        select e.key, e.value
        from jsonb_each(case when jsonb_typeof(options -> 'mask') = 'object' then options -> 'mask' else '{}' end) e
    ) m
    where m.name = any(names) and m.name <> all(tide.outbox_capture_left_out(options, names))
$$;
comment on function tide.outbox_capture_mask(jsonb, text[]) is
'What takes the place of a capture''s masked columns.';
