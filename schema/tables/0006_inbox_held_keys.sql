-- Two indexes on each inbox, both small: dead letters, so that counting and
-- listing them does not read the whole inbox; and messages that wait after a
-- failure, by key, so that an ordered inbox can hold back what follows them.
-- Locks: SHARE on each inbox while its indexes are built; inserts wait.
do $$
declare
    leaf regclass;
begin
    for leaf in
        select i.inhrelid
        from pg_inherits i
        where i.inhparent = 'tide.inbox_message'::regclass and i.inhrelid <> 'tide.inbox_message_0'::regclass
        order by i.inhrelid
    loop
        execute format('create index on %s (id) where dead_at is not null', leaf);
        execute format('create index on %s (key, id)
            where next_attempt_at is not null and processed_at is null and dead_at is null', leaf);
    end loop;
end
$$;
