select
    exists (select from pg_catalog.pg_namespace n where n.nspname = 'tide'),
    (select count(*)::integer
     from (
         select c.relnamespace as namespace from pg_catalog.pg_class c
         union all
         select p.pronamespace from pg_catalog.pg_proc p
         union all
         select t.typnamespace from pg_catalog.pg_type t
     ) o
     join pg_catalog.pg_namespace n on n.oid = o.namespace
     where n.nspname = 'tide'),
    exists (select
            from pg_catalog.pg_proc p
            join pg_catalog.pg_namespace n on n.oid = p.pronamespace
            where n.nspname = 'tide' and p.proname = 'schema_version' and p.pronargs = 0),
    exists (select from pg_catalog.pg_extension e where e.extname = 'pg_tide'),
    coalesce((select e.default_version from pg_catalog.pg_available_extensions e where e.name = 'pg_tide'), '')
