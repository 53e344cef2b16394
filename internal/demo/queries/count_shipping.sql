select count(*), count(*) filter (where processed_at is null) from tide.shipping_triggers_inbox
