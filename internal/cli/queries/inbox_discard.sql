-- Dead letters only: they count as processed from then on.
--
-- $1 inbox, $2 ids, $3 all
select tide.inbox_mark_processed($1::text, array(
    select m.id from tide.inbox_message m
    where m.inbox_id = tide.inbox_id($1::text)
        and m.dead_at is not null and m.processed_at is null
        and ($3::boolean or m.id = any($2::bigint[]))))
