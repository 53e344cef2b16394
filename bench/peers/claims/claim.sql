select id, payload, lease_token::text from tide.inbox_claim('orders', 'peers', $1)
