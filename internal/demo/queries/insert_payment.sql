insert into payments (event_id, order_id, seq, what) values ($1, $2, $3, $4)
