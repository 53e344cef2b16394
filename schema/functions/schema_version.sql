-- The version of this schema. A function and not a row, so that it always is
-- that of the functions beside it, and no dump brings an older one along.
create or replace function tide.schema_version() returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select '1.1'
$$;
comment on function tide.schema_version() is
'The version of the schema tide.';
