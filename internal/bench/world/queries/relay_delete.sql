select tide.relay_delete($1)
