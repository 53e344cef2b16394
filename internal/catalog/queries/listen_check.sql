-- Which server process serves this session, and whether transactions can be
-- prepared: then publishers do not notify.
select pg_backend_pid(), current_setting('max_prepared_transactions')
