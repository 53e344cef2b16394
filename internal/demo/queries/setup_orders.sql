create table orders (id text primary key, customer_id text, total numeric, status text);
select tide.outbox_create('order_events');
select tide.relay_set_outbox(
  'orders-to-nats',
  'order_events',
  '{
    "sink_type": "nats",
    "url": "nats://nats:4222",
    "subject_template": "events.orders.{op}"
  }'::jsonb
);
