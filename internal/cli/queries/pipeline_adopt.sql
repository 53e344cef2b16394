select tide.relay_adopt($1::text)
