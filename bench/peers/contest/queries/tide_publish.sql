select tide.outbox_publish('orders', 'orders', $2, key => $1)
