select tide.inbox_complete('arrived', $1, $2)
