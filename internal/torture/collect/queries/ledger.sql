select event_id::text, outbox, line, seq, type, txn, xid::text, how, at from torture.ledger order by n
