select count(*), count(*) filter (where processed_at is null) from tide.payment_triggers_inbox
