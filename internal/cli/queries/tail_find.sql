-- Whether there is an outbox or an inbox of that name, what is committed by
-- now, and the greatest id that an inbox may have.
select exists (select from tide.outbox o where o.name = $1::text),
       exists (select from tide.inbox i where i.name = $1::text),
       pg_current_snapshot()::text,
       coalesce((
           select max(m.id)
           from tide.inbox_message m
           where m.inbox_id = (select i.id from tide.inbox i where i.name = $1::text)
       ), 0)
