-- $1 key, $2 payload; the library has no keys
insert into watermill_outbox (uuid, payload, metadata, transaction_id)
select gen_random_uuid(), envelope(gen_random_uuid(), $2::jsonb), '{}', pg_current_xact_id()
where $1::text is not null
