select tide.relay_set_outbox(
  'stock-to-kafka',
  'stock_events',
  '{
    "sink_type": "kafka",
    "brokers": "kafka:9092",
    "topic": "events.stock"
  }'::jsonb
);
