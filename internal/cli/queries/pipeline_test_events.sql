-- The newest events of an outbox, oldest first: $2 one by its id, or null; $3 how many.
select e.id, e.event_id::text, e.stream, coalesce(e.key, '') as key, e.op,
       coalesce(e.headers ->> 'event_type', e.payload ->> 'event_type', e.stream || '.' || e.op) as event_type,
       e.published_at, e.payload::text, e.headers::text
from (
    select newest.*
    from tide.outbox_part p
    join tide.outbox o on o.id = p.outbox_id
    cross join lateral (
        select e.*
        from tide.outbox_event e
        where e.part = p.part
          and ($2::uuid is null or e.event_id = $2::uuid)
        order by e.id desc
        limit $3
    ) newest
    where o.name = $1::text
    order by newest.id desc
    limit $3
) e
order by e.id
