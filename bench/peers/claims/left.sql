select count(*) from tide.orders_inbox where processed_at is null
