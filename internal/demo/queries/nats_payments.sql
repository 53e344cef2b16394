select tide.relay_set_inbox(
  'orders-for-payments',
  'payment_triggers',
  '{
    "source_type": "nats",
    "url": "nats://nats:4222",
    "subject": "events.orders.>",
    "consumer_group": "payment-service",
    "durable_name": "payment-service"
  }'::jsonb
);
