select tide.relay_set_outbox(
  'orders-to-nats',
  'order_events',
  '{
    "sink_type": "nats",
    "url": "nats://nats:4222",
    "subject_template": "events.orders.{op}"
  }'::jsonb
);
