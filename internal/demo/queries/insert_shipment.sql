insert into shipments (event_id, subject, seq, what) values ($1, $2, $3, $4)
