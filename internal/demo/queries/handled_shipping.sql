select event_id, subject, seq from shipments order by id
