select tide.relay_set_inbox(
  'orders-for-payments',
  'payment_triggers',
  '{
    "source_type": "kafka",
    "brokers": "kafka:9092",
    "topic": "events.orders",
    "group_id": "events.payment-service"
  }'::jsonb
);
