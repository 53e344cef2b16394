-- Of the messages that arrived last: what became of them, by event type. It
-- costs the same however large the inbox is.
--
-- $1 inbox, $2 how many are looked at
select t.event_type, count(*) as messages,
       count(*) filter (where t.processed_at is not null) as processed,
       count(*) filter (where t.processed_at is null and t.dead_at is null) as waiting,
       count(*) filter (where t.processed_at is null and t.dead_at is not null) as dead,
       count(*) filter (where t.attempts > 1) as retried,
       max(t.attempts) as most_attempts,
       round(extract(epoch from percentile_cont(0.5) within group (order by t.took))::numeric, 3) as half_seconds,
       round(extract(epoch from percentile_cont(0.99) within group (order by t.took))::numeric, 3) as p99_seconds,
       max(t.received_at) as last_received
from (select m.event_type, m.processed_at, m.dead_at, m.attempts, m.received_at, m.processed_at - m.received_at as took
      from tide.inbox_message m
      where m.inbox_id = (select tide.inbox_id($1::text))
      order by m.id desc
      limit $2) t
group by t.event_type
order by messages desc, t.event_type
