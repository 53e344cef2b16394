select tide.relay_set_outbox($1, $2, $3::jsonb, enabled => false)
