select datname, count(*) from pg_stat_activity where application_name = 'pg-tide' and datname is not null group by 1
