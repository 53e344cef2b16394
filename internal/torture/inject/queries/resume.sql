select tide.relay_enable($1)
