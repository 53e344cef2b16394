-- Errors of captured tables, apart from the path of what goes well. No lock.

-- A trigger without its capture, or an outbox that takes nothing.
create or replace function tide.outbox_capture_refuse(relation regclass, outbox text) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if outbox is null then
        raise exception using
            errcode = '55000',
            message = format('table "%s" has the triggers of a capture that is not in tide.outbox_capture', relation),
            hint = format('Capture it again with tide.outbox_capture, or remove the triggers: select tide.outbox_capture_drop(%L);', relation);
    end if;
    raise exception using
        errcode = '55000',
        message = format('table "%s" is captured into outbox "%s", which is disabled', relation, outbox),
        hint = format('Enable it with: select tide.outbox_enable(%L); or stop capturing: select tide.outbox_capture_drop(%L);', outbox, relation);
end
$$;
comment on function tide.outbox_capture_refuse(regclass, text) is
'Raises the error for a captured table that cannot be published from.';

create or replace function tide.outbox_capture_refuse_key(relation regclass, key text) returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = '22023',
        message = case
            when key = '' then format('table "%s" is captured, and the key of this row is empty', relation)
            else format('table "%s" is captured, and the key "%s…" has %s characters; 1024 are the most', relation, left(key, 40), length(key))
        end,
        hint = 'Capture the table with another key: the option "key" names its columns.';
end
$$;
comment on function tide.outbox_capture_refuse_key(regclass, text) is
'Raises the error for a row whose key no event can have.';

create or replace function tide.outbox_capture_refuse_old(relation regclass) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = '22023',
        message = format('table "%s" is captured with "old_values" and has a column "old", whose place in the payload they would take', relation),
        hint = 'Rename the column, or capture the table without "old_values".';
end
$$;
comment on function tide.outbox_capture_refuse_old(regclass) is
'Raises the error for a column in whose place the old values would be.';

-- A column that the capture speaks of is not there. Dropped, it does not
-- matter, unless the key consists of it. Renamed, it would be published
-- although it was to be left out, so that is an error.
create or replace function tide.outbox_capture_check_columns(relation regclass, capture uuid, names text[]) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_capture tide.outbox_capture;
    root          regclass := coalesce(pg_partition_root(relation), relation);
    missing       record;
    other         text;
begin
    select c.* into found_capture from tide.outbox_capture c where c.id = capture;
    for missing in
        select n.key as name, n.value::text::smallint as place, n.key = any(found_capture.key_columns) as in_key
        from jsonb_each(found_capture.named_columns) n
        where n.key <> all(names)
        order by n.key
    loop
        continue when not missing.in_key and exists (
            select from pg_attribute a
            where a.attrelid = root and a.attnum = missing.place and a.attisdropped);
        select a.attname into other
        from pg_attribute a
        where a.attrelid = root and a.attnum = missing.place and not a.attisdropped;
        raise exception using
            errcode = '42703',
            message = format('table "%s" is captured, and column "%s", %s, %s', relation, missing.name,
                case when missing.in_key then 'which the key is made of' else 'which its options name' end,
                case when other is not null then format('is now "%s"', other) else 'is gone' end),
            hint = 'Call tide.outbox_capture again with options that name the columns as they are now; in the transaction that renames a column, if writes must not fail meanwhile.';
    end loop;
end
$$;
comment on function tide.outbox_capture_check_columns(regclass, uuid, text[]) is
'Raises the error for a renamed column that a capture depends on.';
