select tide.relay_disable($1)
