-- Events of known size, without the work of publishing each. Their event ids are
-- as tide.outbox_publish_many makes them.
--
-- $1 outbox, $2 first number, $3 last number, $4 bytes of payload
insert into tide.outbox_event (part, event_id, stream, op, key, payload, headers)
select o.part, (i.prefix || lpad(to_hex(g), 12, '0'))::uuid, o.name, 'insert', (g % 1000)::text,
       jsonb_build_object('n', g, 'text', repeat('x', $4::integer - 30)), '{}'
from tide.outbox o
cross join (
    select overlay(left(replace(gen_random_uuid()::text, '-', ''), 20)
               placing lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint), 12, '0') || '7' from 1 for 13) as prefix
    offset 0
) i
cross join generate_series($2::integer, $3::integer) g
where o.name = $1
