-- Whether an inbox of another database has an event, or remembers it; and
-- whether it would still do so, had it got it at the time $2.
--
-- $1 event, $2 when it was delivered, $3 inbox
select exists (select from tide."{0}_inbox" m where m.inbox_id = i.id and m.event_id = $1::text)
           or exists (select from tide.inbox_memory o where o.inbox_id = i.id and o.event = $1::text::uuid) as known,
       $2::timestamptz > clock_timestamp() - i.retention as memorable
from tide.inbox i
where i.name = $3::text
