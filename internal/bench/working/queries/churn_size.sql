-- What the inbox takes, its memory with it, and how many dead rows it has.
select sum(pg_table_size(c.oid)) filter (where not memory)::float8 / 1e6,
       sum(pg_indexes_size(c.oid)) filter (where not memory)::float8 / 1e6,
       sum(pg_total_relation_size(c.oid)) filter (where memory)::float8 / 1e6,
       sum(pg_stat_get_dead_tuples(c.oid))::float8
from (
    select c.oid, c.relname like 'inbox\_memory\_%' as memory
    from pg_class c
    join tide.inbox i on c.relname ~ format('^inbox_(message|memory)_%s_\d$', i.id)
    where i.name = 'arrived' and c.relkind = 'r' and c.relnamespace = 'tide'::regnamespace
) c
