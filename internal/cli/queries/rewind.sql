select tide.relay_rewind($1::text, $2::text::timestamptz)
