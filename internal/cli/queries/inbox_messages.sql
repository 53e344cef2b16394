-- $1 inbox, $2 state or null, $3 key or null, $4 most
select m.id, m.event_id, m.stream, m.key, m.op, m.event_type, m.payload, m.headers, s.state, m.attempts, m.received_at,
       case when s.state in ('delayed', 'in flight') then m.next_attempt_at end as until,
       m.leased_by as worker, m.processed_at, m.dead_at, m.last_error as error
from tide.inbox_message m
cross join lateral (select case
    when m.processed_at is not null then 'processed'
    when m.dead_at is not null then 'dead'
    when m.next_attempt_at > now() and m.lease_token is not null then 'in flight'
    when m.next_attempt_at > now() then 'delayed'
    else 'pending' end as state) s
where m.inbox_id = (select tide.inbox_id($1::text))
    and case
        when $2::text is null then true
        -- in the words of the indexes
        when $2::text = 'dead' then m.dead_at is not null and m.processed_at is null
        when $2::text = 'processed' then m.processed_at is not null
        else num_nonnulls(m.processed_at, m.dead_at) < 1 and s.state = $2::text end
    and ($3::text is null or m.key = $3::text)
order by m.id
limit $4
