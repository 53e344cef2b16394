select tide.inbox_complete('orders', $1, $2)
