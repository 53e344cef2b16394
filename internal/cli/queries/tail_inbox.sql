select m.id,
       m.received_at as at,
       m.event_id,
       m.source,
       m.stream,
       m.key,
       m.op,
       m.event_type,
       m.payload,
       m.headers
from tide.inbox_message m
where m.inbox_id = (select i.id from tide.inbox i where i.name = $1::text)
  and m.id > $2::bigint
  and ($3::interval = interval '0' or m.received_at >= clock_timestamp() - $3::interval)
order by m.id
limit $4
