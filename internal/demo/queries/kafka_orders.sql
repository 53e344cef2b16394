select tide.relay_set_outbox(
  'orders-to-kafka',
  'order_events',
  '{
    "sink_type": "kafka",
    "brokers": "kafka:9092",
    "topic": "events.orders"
  }'::jsonb
);
