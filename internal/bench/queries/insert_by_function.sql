select insert_by_hand('orders', $1, $2)
