create function publish_one(event_id uuid, key text, payload jsonb) returns void
language sql
as $$
insert into outbox (id, aggregatetype, aggregateid, type, payload)
values (publish_one.event_id, 'orders', coalesce(publish_one.key, ''), 'insert', publish_one.payload)
$$;
