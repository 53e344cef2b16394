-- Whether an outbox of another database got an event; and whether it would
-- still know, had it got it at the time $2: tide.outbox_received_forget.
--
-- $1 event, $2 when it was delivered, $3 outbox
select exists (select from tide.outbox_received r where r.outbox_id = o.id and r.event_id = $1::text::uuid) as known,
       $2::timestamptz > clock_timestamp() - interval '1 day' as memorable
from tide.outbox o
where o.name = $3::text
