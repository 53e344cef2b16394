-- Whether the schema is there, and whether this role may use it as a relay does.
select current_database()::text as database,
       to_regnamespace('tide') is not null and exists (
           select
           from pg_catalog.pg_class r
           where r.relnamespace = to_regnamespace('tide') and r.relname = 'pipeline_owner'
       ) as installed,
       coalesce(has_schema_privilege(to_regnamespace('tide'), 'usage'), false) as usable,
       pg_is_in_recovery() as standby
