select tide.relay_set_inbox(
  'orders-for-shipping',
  'shipping_triggers',
  '{
    "source_type": "nats",
    "url": "nats://nats:4222",
    "subject": "events.orders.>",
    "consumer_group": "shipping-service",
    "durable_name": "shipping-service",
    "transform": {
      "filter": "payload.event_type == ''order.created''"
    }
  }'::jsonb
);
select tide.relay_set_inbox(
  'stock-for-shipping',
  'shipping_triggers',
  '{
    "source_type": "nats",
    "url": "nats://nats:4222",
    "subject": "events.stock.>",
    "consumer_group": "shipping-service",
    "durable_name": "shipping-service-stock"
  }'::jsonb
);
