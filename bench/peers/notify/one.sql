create function publish_one(event_id uuid, key text, payload jsonb) returns void
language sql
as $$
insert into outbox (event_id, key, payload) values (publish_one.event_id, publish_one.key, publish_one.payload)
$$;
