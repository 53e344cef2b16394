-- Whether another database can take what a pipeline delivers: an older schema
-- lacks a function. One that may not be looked into raises an error when a
-- function in it is looked up, so that is not done.
select current_database()::text as database,
       to_regnamespace('tide') is not null as installed,
       s.usable,
       case when s.usable then to_regprocedure('tide.inbox_enter(integer, text[], timestamptz, timestamptz)') is not null
           and to_regprocedure('tide.outbox_receive(text, uuid[], jsonb[], text[], jsonb[], text[], text[])') is not null
           else false end as recent,
       pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' as read_only
from (select coalesce(has_schema_privilege(to_regnamespace('tide'), 'usage'), false) as usable) s
