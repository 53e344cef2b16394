select last_id from outbox_position
