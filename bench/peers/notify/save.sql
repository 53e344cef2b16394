update outbox_position set last_id = $1
