with added as (
    insert into tide.{inbox} (inbox_id, event_id, source, stream, key, op, event_type, payload, headers)
    select i.id, $2::text, $3::text, $4::text, $5::text, $6::text,
        coalesce(h.headers ->> 'event_type', p.payload ->> 'event_type', concat_ws('.', $4::text, $6::text)), p.payload, h.headers
    from tide.inbox i
    cross join (select $7::text::jsonb as payload) p
    cross join (select $8::text::jsonb as headers) h
    where i.name = $1::text
    on conflict do nothing
    returning id
)
select a.id, pg_notify('tide_inbox_' || $1::text, '') is null from added a
