select tide.relay_set_inbox(
  'orders-for-shipping',
  'shipping_triggers',
  '{
    "source_type": "kafka",
    "brokers": "kafka:9092",
    "topic": "events.orders",
    "group_id": "events.shipping-service",
    "transform": {
      "filter": "payload.event_type == ''order.created''"
    }
  }'::jsonb
);
select tide.relay_set_inbox(
  'stock-for-shipping',
  'shipping_triggers',
  '{
    "source_type": "kafka",
    "brokers": "kafka:9092",
    "topic": "events.stock",
    "group_id": "events.shipping-service-stock"
  }'::jsonb
);
