-- Transactions of relays that are open while the relay does something else.
select datname, pid, xact_start, extract(epoch from clock_timestamp() - state_change)::double precision, left(query, 300)
from pg_stat_activity
where application_name = 'pg-tide'
    and state in ('idle in transaction', 'idle in transaction (aborted)')
    and clock_timestamp() - state_change > interval '1 second'
