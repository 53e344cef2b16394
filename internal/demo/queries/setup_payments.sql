-- No unique constraint on purpose: a payment that is taken twice shall show.
create table payments (id bigint generated always as identity primary key, event_id text, order_id text, seq bigint, what text);
select tide.inbox_create('payment_triggers');
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
