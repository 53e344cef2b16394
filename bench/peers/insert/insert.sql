-- $1 event id, $2 key, $3 event type, $4 payload
insert into inbox (event_id, key, event_type, payload) values ($1, $2, $3, $4) on conflict (event_id) do nothing
