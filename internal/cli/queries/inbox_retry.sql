-- Dead letters, and messages that wait after a failure; nothing that was processed.
--
-- $1 inbox, $2 ids, $3 all
select tide.inbox_replay($1::text, array(
    select m.id from tide.inbox_message m
    where m.inbox_id = tide.inbox_id($1::text)
        and m.processed_at is null
        and (m.dead_at is not null or m.next_attempt_at is not null)
        and ($3::boolean or m.id = any($2::bigint[]))))
