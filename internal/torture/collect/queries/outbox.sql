select event_id::text, id, published_at, 'xid ' || xid::text from tide.outbox_event order by id
