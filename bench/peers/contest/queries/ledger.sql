select event_id::text, outbox, line, seq, at from torture.ledger order by n
