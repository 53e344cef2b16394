select id, payload, lease_token::text from tide.inbox_claim('arrived', 'bench', $1)
