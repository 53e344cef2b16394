update stock
set on_hand = on_hand + $2, version = version + 1
where sku = $1
returning on_hand, version
