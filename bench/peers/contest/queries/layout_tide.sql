select tide.outbox_publish('orders', aggregatetype, payload, key => aggregateid, event_id => id) from layout order by id
