-- $1 first number, $2 last number, $3 bytes of payload
insert into watermill_outbox (uuid, payload, metadata, transaction_id)
select gen_random_uuid(), envelope(gen_random_uuid(), jsonb_build_object('n', g, 'text', repeat('x', $3::integer - 30))),
       '{}', pg_current_xact_id()
from generate_series($1::integer, $2::integer) g
