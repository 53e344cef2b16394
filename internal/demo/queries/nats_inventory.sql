select tide.relay_set_outbox(
  'stock-to-nats',
  'stock_events',
  '{
    "sink_type": "nats",
    "url": "nats://nats:4222",
    "subject_template": "events.stock.{op}"
  }'::jsonb
);
