create function publish_one(event_id uuid, key text, payload jsonb) returns void
language sql
as $$
insert into watermill_outbox (uuid, payload, metadata, transaction_id)
values (gen_random_uuid(), envelope(publish_one.event_id, publish_one.payload), '{}', pg_current_xact_id())
$$;
