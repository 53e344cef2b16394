-- $1 inbox, $2 ids, $3 all dead letters
select tide.inbox_replay($1::text, case when $3::boolean
    then array(select m.id from tide.inbox_message m
               where m.inbox_id = tide.inbox_id($1::text) and m.dead_at is not null and m.processed_at is null)
    else $2::bigint[] end)
