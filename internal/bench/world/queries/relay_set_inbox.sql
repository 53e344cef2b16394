select tide.relay_set_inbox($1, $2, $3::jsonb)
