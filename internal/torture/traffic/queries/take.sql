-- What a worker of a class works on next: messages of its lines, locked. Who
-- waits for a lock looks again whether the message is still to be processed.
--
-- $1 inbox, $2 class, $3 classes, $4 most
select m.id, m.event_id, m.key, m.payload ->> 'line', (m.payload ->> 'seq')::bigint
from %s m
where m.id = any(array(
        select p.id
        from tide.inbox_pending($1) p
        where mod(abs(hashtext(p.payload ->> 'line')::bigint), $3::bigint) = $2::bigint
        limit $4::integer))
    -- as the index of pending messages has it: without, all are read
    and num_nonnulls(m.processed_at, m.dead_at) < 1
order by m.id
for update of m
