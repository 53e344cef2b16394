select insert_plain('orders', $1, $2)
